//! PURE. The errors that the protocol knows.

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// The export is read-only.
    #[error("operation not permitted")]
    Perm,
    /// The bytes could not be read or written.
    #[error("input/output error")]
    Io,
    /// There is no memory to carry it out.
    #[error("out of memory")]
    NoMem,
    /// The request makes no sense here.
    #[error("invalid request")]
    Inval,
    /// There is no room for what is to be written.
    #[error("no space left")]
    NoSpc,
    /// The request is longer than what is carried out at once.
    #[error("request too long")]
    Overflow,
    /// Zeros cannot be written fast.
    #[error("not supported")]
    NotSup,
    /// The server is about to end.
    #[error("server is shutting down")]
    Shutdown,
}

impl Errno {
    /// Returns the number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::NoMem => 12,
            Self::Inval => 22,
            Self::NoSpc => 28,
            Self::Overflow => 75,
            Self::NotSup => 95,
            Self::Shutdown => 108,
        }
    }

    /// Returns what an error field says: success, an error, or for one that the protocol does not know, `Inval`.
    pub(crate) fn result(code: u32) -> Result<(), Self> {
        let known = [
            Self::Perm,
            Self::Io,
            Self::NoMem,
            Self::NoSpc,
            Self::Overflow,
            Self::NotSup,
            Self::Shutdown,
        ];
        match code {
            0 => Ok(()),
            code => Err(known
                .into_iter()
                .find(|errno| errno.code() == code)
                .unwrap_or(Self::Inval)),
        }
    }
}
