//! TLS of listeners (SPEC P6).
//!
//! Owns reading certificate and key from their files, at the start and again on a reload; connections that are
//! open keep what they have. Must not know what is spoken inside.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::settings::TlsFiles;

/// The certificate and key of listeners, replaceable while they serve.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads `files`.
    ///
    /// # Errors
    /// Where a file cannot be read, holds no certificate or key, or the two do not belong together.
    pub fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self {
            config: ArcSwap::new(read(files)?),
            files: files.clone(),
        })
    }

    /// Reads the files again, for [`Tls::replace`]; until then, what was read before stays in use.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn read_again(&self) -> anyhow::Result<Arc<ServerConfig>> {
        read(&self.files)
    }

    /// What the connections from now on use.
    pub fn replace(&self, read: Arc<ServerConfig>) {
        self.config.store(read);
    }

    /// What takes the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("this build has no TLS version to speak")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| {
            format!(
                "the certificate {} and the key {} cannot be used together",
                files.cert.display(),
                files.key.display()
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = rustls_pemfile::certs(&mut open(file)?).collect();
    let chain = chain.with_context(|| format!("{} is not PEM", file.display()))?;
    if chain.is_empty() {
        bail!("{} holds no certificate", file.display());
    }
    Ok(chain)
}

fn private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    rustls_pemfile::private_key(&mut open(file)?)
        .with_context(|| format!("{} is not PEM", file.display()))?
        .with_context(|| format!("{} holds no private key", file.display()))
}

fn open(file: &Path) -> anyhow::Result<BufReader<File>> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(BufReader::new(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_damaged_are_told_and_those_that_are_whole_can_take_the_place_of_the_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            cert: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
            listeners: Vec::new(),
        };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        let missing = Tls::load(&files).unwrap_err();
        assert!(missing.to_string().contains("key.pem"), "{missing:#}");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let tls = Tls::load(&files).unwrap();
        std::fs::write(&files.cert, "nothing").unwrap();
        let damaged = tls.read_again().unwrap_err().to_string();
        assert!(damaged.contains("holds no certificate"), "{damaged}");
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        let again = tls.read_again().unwrap();
        assert!(!Arc::ptr_eq(&again, &tls.config.load_full()));
        tls.replace(again.clone());
        assert!(Arc::ptr_eq(&again, &tls.config.load_full()));
    }
}
