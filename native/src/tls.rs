//! TLS from PEM text: certificate, key, and whose certificates clients must show.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

pub struct Pem<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    pub client_ca: Option<&'a [u8]>,
    pub client_required: bool, // else: checked if shown
}

/// The error says which of the three texts is wrong.
pub fn server_config(pem: &Pem<'_>) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(default_provider());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|error| format!("key: {error}"))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(ca) {
                let certificate = certificate.map_err(|error| format!("client CA: {error}"))?;
                roots.add(certificate).map_err(|error| format!("client CA: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if pem.client_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|error| format!("client CA: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("certificate and key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
