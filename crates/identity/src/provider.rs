//! The one place that names a cryptography provider: aws-lc-rs, passed to rustls explicitly everywhere.

use std::sync::{Arc, LazyLock};

use meshwright_model::CipherSuite;
use rustls::crypto::hash::Hash;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite as Number, SupportedCipherSuite};

/// AES-128 first: where we choose (towards services), it is the cheapest that is safe. Towards clients their order counts.
static SUITES: [SupportedCipherSuite; 9] = [
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

static DEFAULT: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() }));

/// The provider: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only, post-quantum key exchange first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&DEFAULT)
}

/// [`provider`] with these suites of TLS 1.2 only; those of TLS 1.3 stay. An empty list changes nothing.
pub(crate) fn provider_with(suites: &[CipherSuite]) -> Arc<CryptoProvider> {
    if suites.is_empty() {
        return provider();
    }
    let mut limited = CryptoProvider::clone(&DEFAULT);
    limited
        .cipher_suites
        .retain(|suite| suite.tls13().is_some() || suites.iter().any(|wanted| number(*wanted) == suite.suite()));
    Arc::new(limited)
}

fn number(suite: CipherSuite) -> Number {
    match suite {
        CipherSuite::EcdsaAes128 => Number::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => Number::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => Number::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => Number::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => Number::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => Number::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

/// SHA-256 as the provider computes it.
pub(crate) fn sha256() -> &'static dyn Hash {
    match SUITES[0] {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
    }
}
