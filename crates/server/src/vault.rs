//! Secrets at rest (SPEC P6).
//!
//! Owns the encryption key and the sealing and opening of secrets with it (XChaCha20-Poly1305, RFC 8439 with
//! a 192-bit nonce). Must not know what the secrets are for. The key is never in the database or a backup.

use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::clock::Clock;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const VERSION: u8 = 1;

/// The holder of the encryption key.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Vault")
    }
}

impl Vault {
    /// A vault with this key.
    #[must_use]
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&key.into()),
        }
    }

    /// The vault whose key stands in `file` as 64 hexadecimal digits. Where the file is missing and `make`
    /// is set, a key is drawn and written, readable by its owner alone.
    ///
    /// # Errors
    /// Where the file is missing, cannot be read or written, or holds no key.
    pub fn open(file: &Path, make: bool, clock: Clock) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => {
                let key: [u8; KEY_BYTES] = clock.entropy_bytes();
                let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                make_private(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
                text
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read the encryption key {}", file.display()));
            }
        };
        Self::from_hex(text.trim()).with_context(|| format!("{} holds no encryption key", file.display()))
    }

    /// The vault with the key that `text` gives.
    ///
    /// # Errors
    /// Where `text` is not 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> anyhow::Result<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            bail!("expected 64 hexadecimal digits (32 bytes); make one with `openssl rand -hex 32`");
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
        }
        Ok(Self::new(key))
    }

    /// Seals `secret` for the thing with the id `owner`: it opens for no other.
    ///
    /// # Panics
    /// Never in practice: sealing fails only for texts of hundreds of gigabytes.
    #[must_use]
    pub fn seal(&self, owner: u128, secret: &[u8], clock: Clock) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = clock.entropy_bytes();
        let payload = Payload {
            msg: secret,
            aad: &owner.to_be_bytes(),
        };
        let Ok(sealed) = self.cipher.encrypt(&XNonce::from(nonce), payload) else {
            panic!("a secret of {} bytes cannot be sealed", secret.len());
        };
        [&[VERSION], nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`Vault::seal`] made for `owner`; `None` where the key or the owner is another.
    #[must_use]
    pub fn open_sealed(&self, owner: u128, sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
        if *version != VERSION {
            return None;
        }
        let payload = Payload {
            msg: ciphertext,
            aad: &owner.to_be_bytes(),
        };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

/// Writes a file that only its owner may read, and syncs it. Fails where it exists.
///
/// # Errors
/// Those of the file system.
pub fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    opened.write_all(text.as_bytes())?;
    opened.write_all(b"\n")?;
    opened.sync_all()
}

/// Makes a file that only its owner may read, whole or not at all, and durably: neither a kill nor a power cut
/// leaves half a key behind, or secrets that were sealed with a key that is gone. Fails where the file exists.
fn make_private(file: &Path, text: &str) -> std::io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    // A name of this process's own: another that starts at the same moment makes its own.
    let beside = directory.join(format!(".key-{}.new", std::process::id()));
    write_private(&beside, text)?;
    // Unlike a rename, a link never takes the place of a file that is there.
    let linked = std::fs::hard_link(&beside, file);
    std::fs::remove_file(&beside)?;
    linked?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_for_its_owner_and_key() {
        let vault = Vault::new([7; 32]);
        let sealed = vault.seal(1, b"whsec", Clock);
        assert_eq!(vault.open_sealed(1, &sealed).as_deref(), Some(&b"whsec"[..]));
        assert_eq!(vault.open_sealed(2, &sealed), None);
        assert_eq!(Vault::new([8; 32]).open_sealed(1, &sealed), None);
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert_eq!(vault.open_sealed(1, &damaged), None, "{index}");
        }
        assert!(!sealed.windows(5).any(|window| window == b"whsec"));
    }

    #[test]
    fn the_key_file_is_made_once_and_read_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret.key");
        assert!(Vault::open(&file, false, Clock).is_err());
        let sealed = Vault::open(&file, true, Clock).unwrap().seal(1, b"x", Clock);
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(
            Vault::open(&file, true, Clock)
                .unwrap()
                .open_sealed(1, &sealed)
                .is_some()
        );
        assert!(Vault::from_hex("zz").is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret.key");
        make_private(&file, "first").unwrap();
        let again = make_private(&file, "second").unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "first\n");
    }
}
