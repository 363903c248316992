//! Operating-system randomness, for ids, tokens and keys. Engines take a seeded generator instead.

const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// The largest multiple of 36 that a byte can hold: bytes from here on would favour the first digits.
const BASE36_FAIR: u8 = 252;

/// Returns `N` random bytes.
///
/// # Panics
/// When the kernel has no randomness to give, which does not happen after boot.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// Returns `n_bytes` random bytes as `2 * n_bytes` lower-case hexadecimal digits.
///
/// # Panics
/// As [`bytes`].
pub fn hex(n_bytes: usize) -> String {
    let mut random = vec![0; n_bytes];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns `n` digits of `0-9a-z`, each equally likely.
///
/// # Panics
/// As [`bytes`].
pub fn base36(n: usize) -> String {
    let mut digits = String::with_capacity(n);
    while digits.len() < n {
        let fair = bytes::<32>().into_iter().filter(|byte| *byte < BASE36_FAIR);
        digits.extend(
            fair.take(n - digits.len())
                .map(|byte| char::from(BASE36[usize::from(byte % 36)])),
        );
    }
    digits
}

#[cfg(test)]
mod tests;
