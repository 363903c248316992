//! PURE. The cookie by which a client says what it has written: the transaction, in 16 hexadecimal digits.

use http::{HeaderMap, header::COOKIE};
use ltx::Txid;

/// Returns the transaction that a request's cookie names; nothing when there is none, or it names none.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<Txid> {
    let lines = headers.get_all(COOKIE).into_iter();
    let values = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value.trim_matches('"'));
    let mut txids = values
        .filter(|value| value.len() == 16)
        .filter_map(|value| u64::from_str_radix(value, 16).ok());
    txids.next().map(Txid::new).filter(|txid| *txid != Txid::ZERO)
}

/// Returns the value of `Set-Cookie`.
///
/// * `expires`: when the client forgets it, as HTTP writes dates.
pub(super) fn written(name: &str, txid: Txid, expires: &str) -> String {
    format!("{name}={txid}; Path=/; Expires={expires}; HttpOnly")
}

#[cfg(test)]
mod tests;
