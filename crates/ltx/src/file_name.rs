//! PURE. Names of files.

use std::{fmt, str::FromStr};

use crate::Txid;

const SUFFIX: &str = ".ltx";
const DIGITS: usize = 16;

/// The name of a file: `<first>-<last>.ltx`, two transaction numbers of 16 hexadecimal digits in lower case.
///
/// The order of names is the order of transactions. Names of any other form, temporary files among them, are nobody's:
/// they do not parse and are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The file's first transaction.
    pub min: Txid,
    /// The file's last transaction.
    pub max: Txid,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{SUFFIX}", self.min, self.max)
    }
}

impl FromStr for FileName {
    type Err = ParseFileNameError;

    fn from_str(name: &str) -> Result<Self, ParseFileNameError> {
        let range = name.strip_suffix(SUFFIX).ok_or(ParseFileNameError)?;
        let (min, max) = range.split_once('-').ok_or(ParseFileNameError)?;
        Ok(Self {
            min: txid(min)?,
            max: txid(max)?,
        })
    }
}

/// Reads a transaction number in lower case.
fn txid(text: &str) -> Result<Txid, ParseFileNameError> {
    let lower_case = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != DIGITS || !text.bytes().all(lower_case) {
        return Err(ParseFileNameError);
    }
    text.parse().map_err(|_| ParseFileNameError)
}

/// The name is not one of an LTX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an ltx file, `<16 hexadecimal digits>-<16 hexadecimal digits>.ltx`")]
pub struct ParseFileNameError;
