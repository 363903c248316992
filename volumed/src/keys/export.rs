//! The cluster key as text that survives paper, chat and a password manager.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use objstore::Remedy;
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{ClusterKey, KEY_BYTES, base32};
use crate::random::Random;

const PREFIX: &str = "hangar-key-";
pub(super) const PLAIN: &str = "hangar-key-1-";
const LOCKED: &str = "hangar-key-1p-";
const CRC_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const SEALED_BYTES: usize = KEY_BYTES + 16;
const LOCKED_BYTES: usize = 4 + SALT_BYTES + SEALED_BYTES;
/// PBKDF2-HMAC-SHA256 rounds for a passphrase that a person chose (OWASP's figure of 2023).
const ROUNDS: u32 = 600_000;
/// Most rounds an import performs: a forged text must not keep the daemon busy for minutes.
const ROUNDS_MAX: u32 = 10_000_000;

/// Why a text is no cluster key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// It does not begin as one.
    #[error("not a cluster key: it begins with \"{PREFIX}\"")]
    NotAKey,
    /// A newer program wrote it.
    #[error("cluster key of format {version:?}, this program reads 1 and 1p: use a newer one")]
    Version {
        /// The format named in the text.
        version: String,
    },
    /// Characters are missing, added or changed.
    #[error("cluster key mistyped or cut short: its checksum does not match")]
    Checksum,
    /// It was exported with a passphrase and none was given.
    #[error("cluster key is locked: give the passphrase it was exported with")]
    PassphraseNeeded,
    /// The passphrase does not open it.
    #[error("cluster key stays locked: the passphrase is another one")]
    PassphraseWrong,
}

impl KeyTextError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
}

impl ClusterKey {
    /// Writes the key as text, locked by `passphrase` if one is given.
    ///
    /// A locked text costs a guesser 600,000 rounds of PBKDF2 a try.
    #[must_use]
    pub fn export_text(&self, passphrase: Option<&str>, random: &dyn Random) -> Zeroizing<String> {
        match passphrase {
            None => plain_text(self),
            Some(passphrase) => {
                let mut salt = [0; SALT_BYTES];
                random.fill(&mut salt);
                self.export_locked(passphrase, salt, ROUNDS)
            }
        }
    }

    pub(super) fn export_locked(
        &self,
        passphrase: &str,
        salt: [u8; SALT_BYTES],
        rounds: u32,
    ) -> Zeroizing<String> {
        let mut body = Vec::with_capacity(LOCKED_BYTES);
        body.extend_from_slice(&rounds.to_le_bytes());
        body.extend_from_slice(&salt);
        let sealed = lock(passphrase, &salt, rounds).encrypt(
            &XNonce::default(),
            Payload {
                msg: self.0.as_slice(),
                aad: &aad(&body),
            },
        );
        let Ok(sealed) = sealed else {
            unreachable!("32 bytes are within the cipher's limit")
        };
        body.extend_from_slice(&sealed);
        text(LOCKED, &body)
    }

    /// Reads a key from text; upper case, blanks, line breaks and missing dashes in it do not matter.
    ///
    /// # Errors
    /// [`KeyTextError`]; a passphrase given for a text without one is ignored.
    pub fn import_text(text: &str, passphrase: Option<&str>) -> Result<Self, KeyTextError> {
        let compact: Zeroizing<String> = Zeroizing::new(
            text.chars()
                .filter(|c| !c.is_whitespace())
                .map(|c| c.to_ascii_lowercase())
                .collect(),
        );
        if let Some(digits) = compact.strip_prefix(PLAIN) {
            let body = body(PLAIN, digits)?;
            let bytes = <[u8; KEY_BYTES]>::try_from(body.as_slice()).map_err(|_| KeyTextError::Checksum)?;
            return Ok(Self::from_bytes(bytes));
        }
        if let Some(digits) = compact.strip_prefix(LOCKED) {
            let body = body(LOCKED, digits)?;
            return Self::unlock(&body, passphrase.ok_or(KeyTextError::PassphraseNeeded)?);
        }
        let rest = compact.strip_prefix(PREFIX).ok_or(KeyTextError::NotAKey)?;
        let version: String = rest.chars().take_while(|c| *c != '-').take(8).collect();
        Err(KeyTextError::Version { version })
    }

    fn unlock(body: &[u8], passphrase: &str) -> Result<Self, KeyTextError> {
        if body.len() != LOCKED_BYTES {
            return Err(KeyTextError::Checksum);
        }
        let (public, sealed) = body.split_at(4 + SALT_BYTES);
        let (rounds, salt) = public.split_first_chunk::<4>().ok_or(KeyTextError::Checksum)?;
        let rounds = u32::from_le_bytes(*rounds);
        if rounds == 0 || rounds > ROUNDS_MAX {
            return Err(KeyTextError::Checksum);
        }
        let opened = lock(passphrase, salt, rounds)
            .decrypt(
                &XNonce::default(),
                Payload {
                    msg: sealed,
                    aad: &aad(public),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| KeyTextError::PassphraseWrong)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(opened.as_slice()).map_err(|_| KeyTextError::Checksum)?;
        Ok(Self::from_bytes(bytes))
    }
}

/// The key's text without a passphrase, as in the key file.
pub(super) fn plain_text(key: &ClusterKey) -> Zeroizing<String> {
    text(PLAIN, key.0.as_slice())
}

/// The cipher that a passphrase opens. Its key is used once, for the salt is random: a zero nonce is safe.
fn lock(passphrase: &str, salt: &[u8], rounds: u32) -> XChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2_hmac::<Sha256>(passphrase.as_bytes(), salt, rounds, key.as_mut_slice());
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn aad(public: &[u8]) -> Vec<u8> {
    [LOCKED.as_bytes(), public].concat()
}

fn crc(prefix: &str, body: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix.as_bytes());
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

fn text(prefix: &str, body: &[u8]) -> Zeroizing<String> {
    let whole = Zeroizing::new([body, crc(prefix, body).as_slice()].concat());
    let digits = Zeroizing::new(base32::encode(&whole));
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + digits.len() * 7 / 6 + 1));
    text.push_str(prefix);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 6 == 0 {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

fn body(prefix: &str, digits: &str) -> Result<Zeroizing<Vec<u8>>, KeyTextError> {
    let whole = base32::decode(digits)
        .map(Zeroizing::new)
        .ok_or(KeyTextError::Checksum)?;
    let (body, found) = whole
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(KeyTextError::Checksum)?;
    if *found != crc(prefix, body) {
        return Err(KeyTextError::Checksum);
    }
    Ok(Zeroizing::new(body.to_vec()))
}
