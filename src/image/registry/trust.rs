//! Decides whether a server's certificate is trusted, and explains what to do if it is not.
//!
//! A private registry often has a self-signed certificate that is marked as an authority's; the recipe in Docker's
//! documentation creates one. It is configured as the registry's `ca`. By the rules of the web, such a certificate may
//! sign others, but not identify a server. As in Docker, it is trusted nevertheless if it is the configured certificate
//! itself and its dates and names are valid.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

/// Trusts certificates that an authority has signed, and the configured certificates themselves.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) authorities: Arc<WebPkiServerVerifier>,
    /// All configured certificates, and this machine's roots.
    pub(super) certificates: HashSet<CertificateDer<'static>>,
}

impl ServerCertVerifier for Configured {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.authorities
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let why = match verified {
            Err(why) if is_of_its_signer(&why) && self.certificates.contains(end_entity) => why,
            verified => return verified,
        };
        tracing::debug!(%why, "trusting a registry's certificate, because it was configured itself");
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Whether only the signer of a certificate is wrong. webpki checks the dates before it returns one of these errors;
/// `tests/registry/hosts.rs` verifies this.
fn is_of_its_signer(why: &rustls::Error) -> bool {
    match why {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(why) => {
            matches!(pki(why), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn pki(why: &CertificateError) -> Option<&webpki::Error> {
    match why {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Why a certificate is not trusted, if more can be explained than in the library's message.
pub(super) fn explained(cause: &(dyn StdError + 'static)) -> Option<String> {
    let mut at = cause;
    let why = loop {
        if let Some(found) = at.downcast_ref::<rustls::Error>() {
            break found;
        }
        // `source` skips the error inside of an `io::Error`, so it is read with `get_ref`.
        at = at.downcast_ref::<io::Error>()?.get_ref()?;
    };
    let rustls::Error::InvalidCertificate(certificate) = why else {
        return None;
    };
    match certificate {
        CertificateError::UnknownIssuer => Some(format!(
            "{why}: name the certificate of its authority, or its own, as `ca` in a hosts.toml"
        )),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => Some(format!(
            "{why}: make one that has the registry's name as subjectAltName"
        )),
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id,
            ..
        } => Some(format!(
            "its certificate, or that of its authority, is signed with {}, which is not supported: {USABLE}",
            name_of(id)
        )),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => Some(format!(
            "its certificate, or that of its authority, is signed with {} and a key of {}, which is not supported: {USABLE}",
            name_of(signature_algorithm_id),
            name_of(public_key_algorithm_id)
        )),
        other => match pki(other)? {
            webpki::Error::CaUsedAsEndEntity => Some(
                "its certificate is an authority's (CA:TRUE), and not one that is configured: name it as `ca` in a hosts.toml, \
                 or make one for the server, with basicConstraints=CA:FALSE"
                    .to_owned(),
            ),
            webpki::Error::UnsupportedCertVersion => Some(
                "its certificate is of X.509 version 1: make one of version 3, with the registry's name as subjectAltName"
                    .to_owned(),
            ),
            _ => None,
        },
    }
}

/// What to create instead.
const USABLE: &str = "make one with P-256, P-384 or P-521 and SHA-256 or SHA-384, with RSA of 2048 bits or more, or with Ed25519";

/// Object identifiers in DER, of the algorithms and keys that certificates use.
const NAMES: [(&[u8], &str); 18] = [
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", "the curve P-256"),
    (b"\x2b\x81\x04\x00\x22", "the curve P-384"),
    (b"\x2b\x81\x04\x00\x23", "the curve P-521"),
    (b"\x2b\x81\x04\x00\x21", "the curve P-224"),
    (b"\x2b\x81\x04\x00\x0a", "the curve secp256k1"),
    (
        b"\x2b\x24\x03\x03\x02\x08\x01\x01\x07",
        "the curve brainpoolP256r1",
    ),
    (
        b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0b",
        "the curve brainpoolP384r1",
    ),
    (
        b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0d",
        "the curve brainpoolP512r1",
    ),
    (b"\x2b\x65\x71", "Ed448"),
    (b"\x2a\x86\x48\xce\x38\x04", "DSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "RSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "RSA and MD5"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "RSA and SHA-1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "ECDSA and SHA-1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", "ECDSA and SHA-224"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", "ECDSA and SHA-256"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", "ECDSA and SHA-384"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "ECDSA and SHA-512"),
];

fn name_of(algorithm: &[u8]) -> String {
    let has = |oid: &[u8]| algorithm.windows(oid.len()).any(|part| part == oid);
    let known = NAMES.iter().find(|(oid, _)| has(oid));
    known.map_or_else(
        || {
            let hex: Vec<_> = algorithm.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("an unknown algorithm ({})", hex.join(" "))
        },
        |(_, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_certificates_are_signed_with_has_a_name() {
        let curve = |oid: &[u8]| [&b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05"[..], oid].concat();
        assert_eq!(name_of(&curve(b"\x2b\x81\x04\x00\x0a")), "the curve secp256k1");
        assert_eq!(
            name_of(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00"),
            "RSA and SHA-1"
        );
        assert_eq!(name_of(b"\x06\x01\x2a"), "an unknown algorithm (06 01 2a)");
    }

    #[test]
    fn an_error_within_errors_is_found() {
        let why = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, why));
        let said = explained(&nested).unwrap();
        assert_eq!(
            said,
            "invalid peer certificate: UnknownIssuer: name the certificate of its authority, or its own, as `ca` in a hosts.toml"
        );
        assert_eq!(explained(&io::Error::other("x")), None);
    }
}
