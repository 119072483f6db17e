//! The certificates to trust and to present: rustls configurations from certificate files.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

use super::Error;
use super::hosts_toml::Described;
use super::signatures::provider;
use super::trust::Configured;

/// The trusted certificates.
struct Anchors {
    authorities: RootCertStore,
    certificates: HashSet<CertificateDer<'static>>,
}

/// The configuration for a host that has a description; `host` is for messages.
pub(super) fn described(host: &str, described: &Described) -> Result<ClientConfig, Error> {
    let mut anchors = system();
    for file in &described.ca {
        let mut any = false;
        for certificate in certificates(host, file)? {
            anchors.certificates.insert(certificate.clone());
            anchors.authorities.add(certificate).map_err(|why| {
                unusable(
                    host,
                    file,
                    &format!("has a certificate that cannot be trusted: {why}"),
                )
            })?;
            any = true;
        }
        if !any {
            return Err(unusable(host, file, "has no certificate"));
        }
    }
    let building = builder(host)?;
    let verified = if described.skip_verify {
        building
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
    } else {
        believing(building, anchors)
    };
    // rustls cannot choose between several client certificates for a server. The first one is presented, because the
    // file prefers it by its order.
    let Some((certificate, key)) = described.client.first() else {
        return Ok(verified.with_no_client_auth());
    };
    let shown = certificates(host, certificate)?;
    let key_file = key.as_ref().unwrap_or(certificate);
    let key = PrivateKeyDer::from_pem_slice(&read(host, key_file)?)
        .map_err(|_| unusable(host, key_file, "has no private key"))?;
    verified
        .with_client_auth_cert(shown, key)
        .map_err(|why| unusable(host, certificate, &format!("and its key do not fit: {why}")))
}

/// The configuration for hosts without a description: trusts this machine's root certificates.
pub(super) fn ordinary() -> Result<ClientConfig, Error> {
    Ok(believing(builder("")?, system()).with_no_client_auth())
}

/// The configuration for hosts that are accessed without TLS: trusts no certificate.
pub(super) fn none() -> Result<ClientConfig, Error> {
    Ok(builder("")?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn believing(
    building: ConfigBuilder<ClientConfig, WantsVerifier>,
    anchors: Anchors,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let Anchors {
        authorities,
        certificates,
    } = anchors;
    let authorities = Arc::new(authorities);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&authorities), Arc::new(provider()));
    match verifier.build() {
        Ok(authorities) => {
            let configured = Configured {
                authorities,
                certificates,
            };
            building
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(configured))
        }
        // There are no root certificates, so no server is trusted.
        Err(_) => building.with_root_certificates(authorities),
    }
}

fn builder(host: &str) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| Error::Unreachable {
            host: host.to_owned(),
            source: why.into(),
        })
}

fn system() -> Anchors {
    let found = rustls_native_certs::load_native_certs();
    for why in &found.errors {
        tracing::debug!(%why, "some of this machine's root certificates cannot be read");
    }
    let mut authorities = RootCertStore::empty();
    let (added, ignored) = authorities.add_parsable_certificates(found.certs.iter().cloned());
    tracing::debug!(added, ignored, "loaded this machine's root certificates");
    Anchors {
        authorities,
        certificates: found.certs.into_iter().collect(),
    }
}

fn certificates(host: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(&read(host, file)?)
        .collect::<Result<_, _>>()
        .map_err(|why| unusable(host, file, &format!("is not PEM: {why}")))
}

fn read(host: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|source: io::Error| Error::Unreadable {
        host: host.to_owned(),
        path: file.to_owned(),
        source,
    })
}

fn unusable(host: &str, file: &Path, why: &str) -> Error {
    Error::Described {
        host: host.to_owned(),
        path: PathBuf::from(file),
        why: why.to_owned(),
    }
}

/// Accepts every certificate, for hosts whose description contains `skip_verify`. Signatures are verified nevertheless.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
