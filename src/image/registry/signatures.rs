//! Verifies signatures with keys of the curve P-521, which ring does not support. Nothing is signed here, so nothing is
//! secret.
//!
//! The other library for rustls, aws-lc-rs, supports the curve and was considered. In place of ring it adds 37 s of
//! processor time to the build (53 s with optimisation) and 2.1 MB to the program, whereas this module adds 3 s (7 s)
//! and 0.1 MB.

use std::sync::LazyLock;

use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The length in bytes of the longest hash, SHA-512. The curve's order has 521 bits, so no hash needs to be truncated.
const LONGEST: usize = 64;

/// ECDSA on this curve with one of the hashes that certificates use.
#[derive(Debug, Clone, Copy)]
enum With {
    Sha256,
    Sha384,
    Sha512,
}

static ALL: [&dyn SignatureVerificationAlgorithm; 3] = [&With::Sha512, &With::Sha384, &With::Sha256];

/// All supported algorithms: those of ring, and those of this module.
static VERIFIED: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let rings = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let all: Vec<_> = rings.all.iter().copied().chain(ALL).collect();
    let own: &'static [&'static dyn SignatureVerificationAlgorithm] = ALL.get(..1).unwrap_or_default();
    let mapping: Vec<_> = [(SignatureScheme::ECDSA_NISTP521_SHA512, own)]
        .into_iter()
        .chain(rings.mapping.iter().copied())
        .collect();
    // Leaked once per process, because rustls requires references that stay valid.
    WebPkiSupportedAlgorithms {
        all: Vec::leak(all),
        mapping: Vec::leak(mapping),
    }
});

/// The provider of ring, extended with P-521 signatures.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification_algorithms: *VERIFIED,
        ..rustls::crypto::ring::default_provider()
    }
}

impl SignatureVerificationAlgorithm for With {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let hash = match self {
            Self::Sha256 => number(&Sha256::digest(message)),
            Self::Sha384 => number(&Sha384::digest(message)),
            Self::Sha512 => number(&Sha512::digest(message)),
        };
        key.verify_prehash(&hash, &signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self {
            Self::Sha256 => alg_id::ECDSA_SHA256,
            Self::Sha384 => alg_id::ECDSA_SHA384,
            Self::Sha512 => alg_id::ECDSA_SHA512,
        }
    }
}

/// A hash as a number (FIPS 186-5, 6.4.2): a hash that is shorter than the curve's order is padded with leading zeros,
/// because the library rejects hashes of less than half that length.
fn number(hash: &[u8]) -> [u8; LONGEST] {
    let mut number = [0; LONGEST];
    let at = LONGEST.saturating_sub(hash.len());
    for (to, from) in number.iter_mut().skip(at).zip(hash) {
        *to = *from;
    }
    number
}
