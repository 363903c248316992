//! Bearer tokens: how they arrive, how they are kept, how they are compared.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// SHA-256 of a token; all that the catalog keeps of one.
pub type TokenHash = [u8; 32];

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Everything on this node.
    Root,
    /// Everything below one app, named by its row id; nothing else.
    App {
        /// Row id of the app.
        app_id: i64,
    },
}

/// One token of the catalog.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Hash of the token text.
    pub hash: TokenHash,
    /// What it may do.
    pub grant: Grant,
    /// When it ends, if it ends.
    pub expires_at: Option<jiff::Timestamp>,
}

/// Makes a token nobody can guess (256 random bits).
pub fn generate() -> String {
    format!("hangar_{}", daemon::random::hex(32))
}

/// Hashes a token's text.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Takes the tokens out of an `Authorization` header: the scheme `Bearer` or `FlyV1` (or none) dropped, then split at commas.
pub fn presented(header: &str) -> Vec<&str> {
    let header = header.trim();
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    let is_scheme = ["bearer", "flyv1"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let rest = if is_scheme { rest } else { header };
    rest.split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect()
}

/// Finds the widest grant among the presented tokens. Compares every hash with every row in constant time.
pub fn grant(presented: &[&str], rows: &[TokenRow], now: jiff::Timestamp) -> Option<Grant> {
    let mut found = None;
    for token in presented {
        let presented_hash = hash(token);
        for row in rows {
            let same = bool::from(presented_hash.ct_eq(&row.hash));
            let valid = row.expires_at.is_none_or(|end| now < end);
            if same && valid && found != Some(Grant::Root) {
                found = Some(row.grant.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
