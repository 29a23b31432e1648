//! TLS of listeners (SPEC P6).
//!
//! Owns reading certificate and key from their files, at the start and again on a reload; connections that are
//! open keep what they have. Must not know what is spoken inside.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
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
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let chain = read.map_err(|error| in_words(file, "certificate", error))?;
    if chain.is_empty() {
        return Err(in_words(file, "certificate", pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| in_words(file, "private key", error))
}

/// What is wrong with a file. The parser's own words may repeat a line of it, and that may be the key.
fn in_words(file: &Path, wanted: &str, error: pem::Error) -> anyhow::Error {
    let file = file.display();
    match error {
        pem::Error::Io(error) => anyhow::Error::new(error).context(format!("cannot read {file}")),
        pem::Error::NoItemsFound => anyhow!("{file} holds no {wanted}"),
        pem::Error::MissingSectionEnd { .. }
        | pem::Error::IllegalSectionStart { .. }
        | pem::Error::Base64Decode(_)
        | pem::Error::SectionTooLarge
        | _ => anyhow!(
            "{file} is not PEM: its BEGIN and END lines must stand on lines of their own, with base64 between them"
        ),
    }
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
        let pem = made.signing_key.serialize_pem();
        // As it is where an environment variable lost the ends of its lines.
        std::fs::write(&files.key, pem.replace('\n', " ")).unwrap();
        let on_one_line = format!("{:#}", Tls::load(&files).unwrap_err());
        assert!(on_one_line.contains("on lines of their own"), "{on_one_line}");
        assert!(!on_one_line.contains(&pem[40..50]), "{on_one_line}");
        std::fs::write(&files.key, pem).unwrap();
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
