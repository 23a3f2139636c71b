//! TLS from PEM text: certificate, key, whose certificates clients must show, which versions and
//! ciphers; and certificates of our own making where none are given.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

pub struct Pem<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    pub client_ca: Option<&'a [u8]>,
    pub client_required: bool,        // else: checked if shown
    pub client_crl: Option<&'a [u8]>, // revocation lists, as PEM, or one as DER
    pub client_names: &'a [String],   // one of them must be in a client's certificate; none: any
}

/// What may be negotiated.
#[derive(Default)]
pub struct Limits {
    pub version_min: Option<String>, // "1.2" or "1.3"; None: 1.2
    pub version_max: Option<String>, // None: 1.3
    pub ciphers: Vec<String>,        // by their IANA names; empty: the defaults
}

/// The error says which of the texts is wrong.
pub fn server_config(pem: &Pem<'_>, limits: &Limits) -> Result<Arc<ServerConfig>, String> {
    let mut provider = default_provider();
    if !limits.ciphers.is_empty() {
        let wanted: Vec<_> = limits.ciphers.iter().map(|name| rustls_name(name)).collect();
        let known = |name: &String| {
            provider.cipher_suites.iter().any(|suite| format!("{:?}", suite.suite()) == *name)
        };
        if let Some(place) = wanted.iter().position(|name| !known(name)) {
            return Err(format!("cipher suite {} is not supported", limits.ciphers[place]));
        }
        provider.cipher_suites.retain(|suite| wanted.contains(&format!("{:?}", suite.suite())));
    }
    let provider = Arc::new(provider);
    let (chain, key) = chain_and_key(pem.certificate, pem.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(limits)?)
        .map_err(|error| format!("versions and cipher suites: {error}"))?;
    let builder = match pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = roots(ca).map_err(|error| format!("client CA: {error}"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if pem.client_required { verifier } else { verifier.allow_unauthenticated() };
            // As etcd takes them: what a list names is refused; who has no list is not asked about.
            let verifier = match pem.client_crl {
                None => verifier,
                Some(crl) => verifier.with_crls(revocations(crl)?).allow_unknown_revocation_status(),
            };
            let verifier = verifier.build().map_err(|error| format!("client CA: {error}"))?;
            builder.with_client_cert_verifier(Named::wrap(verifier, pem.client_names)?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("certificate and key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// From PEM. The error says which of the two is wrong.
pub fn chain_and_key(
    certificate: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
    let chain = chain.map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?;
    Ok((chain, key))
}

/// The authorities in a PEM text, perhaps none.
pub fn roots(ca: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn revocations(crl: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(crl)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("client CRL: {error}"))?;
    Ok(if lists.is_empty() { vec![crl.to_vec().into()] } else { lists })
}

/// Lets in only clients whose certificates have one of these names, beside all other checks.
#[derive(Debug)]
struct Named {
    others: Arc<dyn ClientCertVerifier>,
    names: Vec<ServerName<'static>>,
}

impl Named {
    fn wrap(
        others: Arc<dyn ClientCertVerifier>,
        names: &[String],
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        if names.is_empty() {
            return Ok(others);
        }
        let parse = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| format!("client name {name}: no host name"))
        };
        Ok(Arc::new(Named { others, names: names.iter().map(parse).collect::<Result<_, _>>()? }))
    }
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.others.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.others.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.others.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.others.verify_client_cert(end_entity, intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if self.names.iter().any(|name| verify_server_name(&certificate, name).is_ok()) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
}

/// IANA (and Go) leave the version out of TLS 1.3's names; rustls writes it.
fn rustls_name(name: &str) -> String {
    match name.strip_prefix("TLS_") {
        Some(rest) if rest.starts_with("AES_") || rest.starts_with("CHACHA20_") => format!("TLS13_{rest}"),
        // Go also knows these two by a shorter name.
        Some(_) if name.ends_with("_WITH_CHACHA20_POLY1305") => format!("{name}_SHA256"),
        _ => name.to_owned(),
    }
}

fn versions(limits: &Limits) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let place = |text: &Option<String>, default: usize| match text.as_deref() {
        None => Ok(default),
        Some("1.2") => Ok(0),
        Some("1.3") => Ok(1),
        Some(other) => Err(format!("TLS version {other} is not supported")),
    };
    let (first, last) = (place(&limits.version_min, 0)?, place(&limits.version_max, 1)?);
    if first > last {
        return Err("the least TLS version is above the greatest".to_owned());
    }
    Ok([&TLS12, &TLS13][first..=last].to_vec())
}

/// A new key and a certificate for these names and addresses that it signs itself: (certificate,
/// key) as PEM, valid from `now` on, in seconds since 1970.
pub fn self_signed(
    names: Vec<String>,
    common_name: &str,
    now: i64,
    days: u32,
) -> Result<(String, String), String> {
    use rcgen::{
        CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
    };
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + std::time::Duration::from_secs(now.max(0).unsigned_abs());
    params.not_after = params.not_before + std::time::Duration::from_secs(u64::from(days) * 86_400);
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limits: &Limits) -> Result<Arc<ServerConfig>, String> {
        let (certificate, key) = self_signed(vec!["localhost".into()], "test", 0, 36_500).unwrap();
        let pem = Pem {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            client_ca: Some(certificate.as_bytes()),
            client_required: true,
            client_crl: None,
            client_names: &[],
        };
        server_config(&pem, limits)
    }

    fn limits(min: &str, max: &str, ciphers: &[&str]) -> Limits {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ciphers = ciphers.iter().map(|name| (*name).to_owned()).collect();
        Limits { version_min: text(min), version_max: text(max), ciphers }
    }

    #[test]
    fn ciphers_go_by_the_names_that_go_uses() {
        let names = [
            "TLS_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        ];
        assert_eq!(config(&limits("", "", &names)).unwrap().crypto_provider().cipher_suites.len(), 3);
        let error = config(&limits("", "", &["TLS_RSA_WITH_RC4_128_SHA"])).unwrap_err();
        assert_eq!(error, "cipher suite TLS_RSA_WITH_RC4_128_SHA is not supported");
    }

    #[test]
    fn versions_that_leave_nothing_are_refused() {
        assert!(config(&limits("1.3", "", &[])).is_ok());
        assert!(config(&limits("", "1.2", &[])).is_ok());
        assert!(config(&limits("1.3", "1.2", &[])).is_err());
        assert!(config(&limits("1.1", "", &[])).is_err());
        assert!(config(&limits("1.3", "", &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])).is_err());
    }
}
