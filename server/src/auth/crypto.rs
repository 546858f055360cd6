//! Signatures of tokens, by `ring`: TLS brings it along, so that nothing else has to be built for them.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{self as ring_signature, RsaParameters, VerificationAlgorithm};

/// What `jsonwebtoken` asks.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Says to `jsonwebtoken` who does it. It is the same however often this is said.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

/// Tokens are signed with a shared secret only: public keys are for those that others sign.
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(Secret(hmac::Key::new(
            hmac::HMAC_SHA256,
            key.as_bytes(),
        )))),
        _ => Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let of_curve = |scheme: &'static dyn VerificationAlgorithm| -> Result<Public> {
        let point = key.try_get_as_bytes()?.to_vec();
        Ok(Public {
            algorithm: *algorithm,
            check: Check::Point(scheme, point),
        })
    };
    let of_rsa = |scheme: &'static RsaParameters| Public {
        algorithm: *algorithm,
        check: Check::Rsa(scheme, key.kind().clone()),
    };
    let is_other = algorithm.family() != key.family();
    let public = match algorithm {
        _ if is_other => return Err(new_error(ErrorKind::InvalidAlgorithm)),
        Algorithm::HS256 => {
            let secret = key.try_get_as_bytes()?;
            return Ok(Box::new(Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))));
        }
        Algorithm::ES256 => of_curve(&ring_signature::ECDSA_P256_SHA256_FIXED)?,
        Algorithm::ES384 => of_curve(&ring_signature::ECDSA_P384_SHA384_FIXED)?,
        Algorithm::EdDSA => of_curve(&ring_signature::ED25519)?,
        Algorithm::RS256 => of_rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => of_rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => of_rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => of_rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => of_rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => of_rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    Ok(Box::new(public))
}

/// A secret that is shared with who makes the tokens.
struct Secret(hmac::Key);

impl Signer<Vec<u8>> for Secret {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Secret {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Secret {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Secret {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// A public key.
struct Public {
    algorithm: Algorithm,
    check: Check,
}

enum Check {
    Point(&'static dyn VerificationAlgorithm, Vec<u8>),
    Rsa(&'static RsaParameters, DecodingKeyKind),
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let checked = match &self.check {
            Check::Point(scheme, point) => {
                ring_signature::UnparsedPublicKey::new(*scheme, point).verify(message, signature)
            }
            Check::Rsa(scheme, DecodingKeyKind::SecretOrDer(der)) => {
                ring_signature::UnparsedPublicKey::new(*scheme, der).verify(message, signature)
            }
            Check::Rsa(scheme, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                ring_signature::RsaPublicKeyComponents { n, e }.verify(scheme, message, signature)
            }
        };
        checked.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
