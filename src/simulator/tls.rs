//! A certificate authority and a server certificate, made at start and known to nobody else.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// What a TLS listener needs, and what its clients need to trust it.
pub(super) struct Identity {
    pub acceptor: TlsAcceptor,
    pub ca_pem: String,
}

/// Makes both certificates; the server's is for `localhost`, the loopback addresses and `address`.
///
/// # Errors
/// What the cryptography library says, which then can't do anything at all.
pub(super) fn identity(address: IpAddr) -> io::Result<Identity> {
    let (chain, key, ca_pem) = certificates(address).map_err(io::Error::other)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem })
}

type Made = (Vec<rustls_pki_types::CertificateDer<'static>>, PrivateKeyDer<'static>, String);

fn certificates(address: IpAddr) -> Result<Made, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Weir simulator CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.is_loopback() && !address.is_unspecified() {
        names.push(address.to_string());
    }
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "Weir simulator");
    let certificate = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((vec![certificate.der().clone()], key, ca_pem))
}
