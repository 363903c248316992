//! Why a stream is given up.

/// Why a stream is given up. The replica connects again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame begins so. A primary of LiteFS writes errors as text into the stream: its first four letters are a type then.
    #[error("a frame of type {0:#010x}")]
    Type(u32),
    /// A name or an id is longer than any is.
    #[error("{what} of {bytes} bytes, {max} at most")]
    Long {
        /// What it names.
        what: &'static str,
        /// What it claims.
        bytes: u32,
        /// What is allowed.
        max: usize,
    },
    /// A name or an id is no text.
    #[error("{what} that is not UTF-8")]
    Text {
        /// What it names.
        what: &'static str,
    },
    /// The stream ends where it may not.
    #[error("the stream ends within a frame")]
    Truncated,
    /// Something follows the end.
    #[error("the stream goes on behind its end")]
    AfterEnd,
    /// An earlier call failed.
    #[error("the stream was given up after an error")]
    Broken,
}
