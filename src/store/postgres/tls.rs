//! TLS to the database, with the modes of libpq.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anybody's: encrypted, but the server may be another. What `prefer` and `require` of libpq mean.
    Anybody,
    /// Those of the public authorities, for the host's name.
    Public,
    /// Those that are signed by one of these, DER, for the host's name.
    Own(Vec<Vec<u8>>),
}

impl Trust {
    /// Returns what `sslmode` and `sslrootcert` of an address mean.
    ///
    /// # Errors
    /// When there is no such mode, or the file cannot be read or holds no certificate.
    pub(super) fn new(mode: Option<&str>, file: Option<String>) -> Result<Self, String> {
        let verifies = match mode {
            None | Some("disable" | "allow" | "prefer" | "require") => false,
            // The host's name is verified with both.
            Some("verify-ca" | "verify-full") => true,
            Some(other) => {
                return Err(format!(
                    "invalid sslmode {other:?}: expected disable, prefer, require or verify-full"
                ));
            }
        };
        match file {
            Some(file) => {
                let why =
                    |e: &dyn std::fmt::Display| format!("cannot use sslrootcert {file:?}: {e}");
                let pem = fs::read(&file).map_err(|e| why(&e))?;
                let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                let all = all.map_err(|e| why(&e))?;
                if all.is_empty() {
                    return Err(why(&"it holds no certificate"));
                }
                Ok(Self::Own(all.iter().map(|der| der.to_vec()).collect()))
            }
            None if verifies => Ok(Self::Public),
            None => Ok(Self::Anybody),
        }
    }
}

/// Returns what makes connections with TLS.
pub(super) fn connector(trust: &Trust) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    let config = match trust {
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Trust::Public => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Own(all) => {
            for der in all {
                let der = CertificateDer::from(der.clone());
                roots.add(der).map_err(|e| e.to_string())?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Believes every certificate, and verifies that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
