//! Credit (PURE): how much of a stream may be under way.
//!
//! Both ends start a stream with [`WINDOW_BYTES`] of credit. The sender spends it; the receiver gives back
//! what its consumer has taken, in steps of a quarter window so that credit frames stay rare.

/// Credit of a fresh stream, in bytes.
pub const WINDOW_BYTES: u32 = 256 * 1024;

const GRANT_STEP_BYTES: u32 = WINDOW_BYTES / 4;

/// The peer broke the rules of credit; its session cannot be trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// More bytes came than credit was given.
    #[error("{bytes} bytes came with {credit_bytes} bytes of credit left")]
    Overrun {
        /// What came.
        bytes: usize,
        /// What was allowed.
        credit_bytes: u32,
    },
    /// More credit came than bytes were sent.
    #[error("credit of {bytes} bytes with {credit_bytes} of {WINDOW_BYTES} left")]
    Excess {
        /// What was granted.
        bytes: u32,
        /// What was left before.
        credit_bytes: u32,
    },
}

/// The sending end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendWindow {
    credit_bytes: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self {
            credit_bytes: WINDOW_BYTES,
        }
    }
}

impl SendWindow {
    /// Returns how many bytes may be sent now.
    pub fn credit_bytes(&self) -> usize {
        self.credit_bytes as usize
    }

    /// Spends credit for up to `bytes` bytes and returns for how many.
    pub fn spend(&mut self, bytes: usize) -> usize {
        let spent = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.credit_bytes);
        self.credit_bytes -= spent;
        spent as usize
    }

    /// Takes in a grant of the receiver.
    ///
    /// # Errors
    /// [`FlowError::Excess`] when the window would exceed [`WINDOW_BYTES`].
    pub fn granted(&mut self, bytes: u32) -> Result<(), FlowError> {
        let excess = FlowError::Excess {
            bytes,
            credit_bytes: self.credit_bytes,
        };
        let credit_bytes = self.credit_bytes.checked_add(bytes).ok_or(excess)?;
        if credit_bytes > WINDOW_BYTES {
            return Err(excess);
        }
        self.credit_bytes = credit_bytes;
        Ok(())
    }
}

/// The receiving end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveWindow {
    credit_bytes: u32,
    unreturned_bytes: u32,
    held_bytes: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self {
            credit_bytes: WINDOW_BYTES,
            unreturned_bytes: 0,
            held_bytes: 0,
        }
    }
}

impl ReceiveWindow {
    /// Takes in `bytes` received bytes.
    ///
    /// # Errors
    /// [`FlowError::Overrun`] when the sender had no credit for them.
    pub fn received(&mut self, bytes: usize) -> Result<(), FlowError> {
        let overrun = FlowError::Overrun {
            bytes,
            credit_bytes: self.credit_bytes,
        };
        let count = u32::try_from(bytes).map_err(|_| overrun)?;
        self.credit_bytes = self.credit_bytes.checked_sub(count).ok_or(overrun)?;
        self.held_bytes += count;
        assert!(
            self.credit_bytes + self.held_bytes + self.unreturned_bytes == WINDOW_BYTES,
            "window does not add up: {self:?}"
        );
        Ok(())
    }

    /// The consumer has taken `bytes` bytes; returns a grant to send, when one is due.
    ///
    /// # Panics
    /// When more is consumed than was received.
    #[must_use = "the grant has to be sent"]
    pub fn consumed(&mut self, bytes: usize) -> Option<u32> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        assert!(
            count <= self.held_bytes,
            "{count} bytes consumed, {} held",
            self.held_bytes
        );
        self.held_bytes -= count;
        self.unreturned_bytes += count;
        if self.unreturned_bytes < GRANT_STEP_BYTES {
            return None;
        }
        let grant = self.unreturned_bytes;
        self.unreturned_bytes = 0;
        self.credit_bytes += grant;
        Some(grant)
    }
}

#[cfg(test)]
mod tests;
