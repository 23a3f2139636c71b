//! TLS as the generator speaks it: whom it trusts, what it shows, and in words what went wrong.

use std::io;
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

use crate::tls::{chain_and_key, roots};

const HTTP2: &[u8] = b"h2";

/// Whom to trust, and what to show to a server that asks.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// PEM texts; without a CA, the system's are trusted; `shown` is a certificate and its key. The
    /// error says which text is wrong.
    pub fn new(ca: Option<&[u8]>, shown: Option<(&[u8], &[u8])>) -> Result<Self, String> {
        let roots = match ca {
            Some(ca) => roots(ca).map_err(|error| format!("CA: {error}"))?,
            None => system_roots(),
        };
        if roots.is_empty() {
            let text = if ca.is_some() { "CA: no certificate in it" } else { "the system trusts nobody" };
            return Err(text.to_owned());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key) = chain_and_key(certificate, key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("certificate and key: {error}"))?
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Trust(Arc::new(config)))
    }
}

/// What cannot be read or understood is left out.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_native_certs().certs);
    roots
}

/// TLS to one server, whose certificate must be for its name or address.
#[derive(Clone, Debug)]
pub struct Tls {
    trust: Trust,
    name: ServerName<'static>,
}

impl Tls {
    /// `authority` is `host:port`. An error: its host is no name.
    pub fn to(authority: &str, trust: &Trust) -> Result<Self, String> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host}: neither a host's name nor an address"))?;
        Ok(Tls { trust: trust.clone(), name })
    }

    pub async fn shake_hands(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.trust.0.clone());
        let stream = connector.connect(self.name.clone(), socket).await.map_err(explained)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Ok(stream),
            _ => Err(io::Error::other("the server agrees on no HTTP/2 in TLS (ALPN)")),
        }
    }
}

/// The same error in words that say what to do, where TLS is what failed.
pub fn explained(error: io::Error) -> io::Error {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let text = match fault {
        Some(Error::InvalidCertificate(fault)) => {
            format!("the server's certificate is refused: {}", certificate_fault(fault))
        }
        Some(Error::AlertReceived(alert)) => alert_fault(*alert),
        Some(Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
        Some(other) => format!("TLS: {other}"),
        None if is_closed(&error) => {
            "the server closed the connection during the TLS handshake; perhaps it does not speak TLS"
                .to_owned()
        }
        None => return error,
    };
    io::Error::new(error.kind(), text)
}

/// The other side is gone: in order, or because it did not want to read what we had sent.
pub fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe)
}

fn certificate_fault(fault: &CertificateError) -> String {
    match fault {
        CertificateError::UnknownIssuer => "no authority that is trusted has signed it".to_owned(),
        CertificateError::BadSignature => {
            "an authority of a trusted one's name has signed it, but with another key".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed by an algorithm, or with a kind of key, that is not supported".to_owned()
        }
        CertificateError::Other(other) => other.to_string(),
        other => other.to_string(),
    }
}

fn alert_fault(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => "the server wants a client certificate".to_owned(),
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => {
            format!("the server refuses the client certificate, or that there is none ({alert:?})")
        }
        A::NoApplicationProtocol => "the server agrees on no HTTP/2 in TLS (ALPN)".to_owned(),
        other => format!("the server broke the TLS handshake off ({other:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::self_signed;

    #[test]
    fn the_host_is_the_name_whatever_stands_around_it() {
        let (ca, _) = self_signed(vec!["localhost".into()], "test", 0, 36_500).expect("a certificate");
        let trust = Trust::new(Some(ca.as_bytes()), None).expect("a certificate");
        for (authority, host) in
            [("example.org:2379", "example.org"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:2379", "::1")]
        {
            let tls = Tls::to(authority, &trust).expect(authority);
            assert_eq!(tls.name.to_str(), host);
        }
        assert!(Tls::to("no host:1", &trust).is_err());
    }

    #[test]
    fn a_text_that_is_wrong_is_named() {
        let (ca, _) = self_signed(vec!["localhost".into()], "test", 0, 36_500).expect("a certificate");
        let error = |ca: &str, shown| Trust::new(Some(ca.as_bytes()), shown).expect_err("wrong");
        assert_eq!(error("", None), "CA: no certificate in it");
        assert!(error(&ca, Some((ca.as_bytes(), b"no key"))).starts_with("key: "));
        assert!(
            error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None).starts_with("CA: ")
        );
    }
}
