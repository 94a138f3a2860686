//! A certificate authority of the tests' own, and a certificate of it for loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::read;

/// Files in PEM, valid for two days.
pub struct Certificates {
    /// What clients are to trust, for instance by `SSL_CERT_FILE`.
    pub authority: PathBuf,
    /// The server's certificate; without other names for `localhost`, `registry.test` and 127.0.0.1.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

/// Makes an authority and a certificate in `dir` with openssl(1).
pub fn certificates(dir: &Path) -> Result<Certificates> {
    certificates_for(dir, &["DNS:localhost", "DNS:registry.test", "IP:127.0.0.1"])
}

/// As [`certificates`], for these names, as openssl has them (x509v3_config(5), "Subject Alternative Name").
pub fn certificates_for(dir: &Path, names: &[&str]) -> Result<Certificates> {
    let [authority, certificate, key, authority_key] =
        ["ca.pem", "server.pem", "server.key", "ca.key"].map(|name| dir.join(name));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let mut ca = Command::new("openssl");
    ca.args(["req", "-x509"]).args(new_key).args(["-subj", "/CN=rbox test authority"]);
    read(ca.arg("-keyout").arg(&authority_key).arg("-out").arg(&authority))?;

    let mut server = Command::new("openssl");
    server.args(["req", "-x509"]).args(new_key).args(["-subj", "/CN=localhost"]);
    server.arg("-addext").arg(format!("subjectAltName={}", names.join(",")));
    server.args(["-addext", "basicConstraints=critical,CA:false"]);
    server.arg("-CA").arg(&authority).arg("-CAkey").arg(&authority_key);
    read(server.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    Ok(Certificates { authority, certificate, key })
}
