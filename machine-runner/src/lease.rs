//! Leases: who may change a machine for a while. Pure: the clock is an argument.

use serde::{Deserialize, Serialize};

/// Longest lease that is granted, in seconds.
pub const TTL_SECONDS_MAX: u64 = 24 * 3600;
/// Ttl of a lease whose request names none.
pub const TTL_SECONDS_DEFAULT: u64 = 300;

/// A lease as kept in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Secret of the holder; every change must carry it.
    pub nonce: String,
    /// Unix seconds after which the lease is void.
    pub expires_at: i64,
    /// Who asked.
    pub owner: String,
    /// Free text of the holder.
    pub description: String,
    /// `instance_id` of the machine when the lease was granted.
    pub version: String,
}

/// Why a lease request or a change under a lease is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseError {
    /// Someone else holds the machine.
    #[error(
        "machine is currently leased by {owner} until {expires_at} (unix seconds); wait, or send its nonce in fly-machine-lease-nonce"
    )]
    Held {
        /// Holder.
        owner: String,
        /// End of the lease, unix seconds.
        expires_at: i64,
    },
    /// A nonce came for a machine that is not leased, or with another nonce.
    #[error("lease nonce does not match; the lease expired or was taken by {owner}")]
    WrongNonce {
        /// Present holder.
        owner: String,
    },
    /// The ttl is out of range.
    #[error("lease ttl must be 1 to {TTL_SECONDS_MAX} seconds, got {0}")]
    Ttl(u64),
    /// There is no lease.
    #[error("no lease held on this machine")]
    None,
}

impl LeaseError {
    /// HTTP status of the refusal.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Held { .. } | Self::WrongNonce { .. } => 409,
            Self::Ttl(_) => 400,
            Self::None => 404,
        }
    }
}

/// What the requester asks for.
#[derive(Clone, Debug)]
pub struct Acquire<'a> {
    /// Nonce that the caller sent, if any: a refresh.
    pub nonce: Option<&'a str>,
    /// Wanted length in seconds.
    pub ttl_seconds: u64,
    /// Who asks.
    pub owner: &'a str,
    /// Free text.
    pub description: &'a str,
    /// The machine's version now.
    pub version: &'a str,
    /// Nonce to use for a new lease.
    pub fresh_nonce: String,
}

/// The lease that still counts at `now` (unix seconds).
#[must_use]
pub fn live(lease: Option<Lease>, now: i64) -> Option<Lease> {
    lease.filter(|lease| lease.expires_at > now)
}

/// Grants or refreshes a lease.
///
/// # Errors
/// [`LeaseError::Held`] and [`LeaseError::WrongNonce`] when another holder's lease is alive, [`LeaseError::Ttl`] out of range.
pub fn acquire(held: Option<Lease>, ask: Acquire<'_>, now: i64) -> Result<Lease, LeaseError> {
    if ask.ttl_seconds == 0 || ask.ttl_seconds > TTL_SECONDS_MAX {
        return Err(LeaseError::Ttl(ask.ttl_seconds));
    }
    let expires_at = now + i64::try_from(ask.ttl_seconds).unwrap_or(i64::MAX / 2);
    match live(held, now) {
        Some(lease) => match ask.nonce {
            // A refresh keeps the nonce and may shorten the lease: the holder decides.
            Some(nonce) if nonce == lease.nonce => Ok(Lease {
                expires_at,
                version: ask.version.to_owned(),
                ..lease
            }),
            Some(_) => Err(LeaseError::WrongNonce { owner: lease.owner }),
            None => Err(LeaseError::Held {
                owner: lease.owner,
                expires_at: lease.expires_at,
            }),
        },
        None => Ok(Lease {
            nonce: ask.fresh_nonce,
            expires_at,
            owner: ask.owner.to_owned(),
            description: ask.description.to_owned(),
            version: ask.version.to_owned(),
        }),
    }
}

/// Lets a change through when nobody else holds the machine. A stale nonce on a machine without a lease is let
/// through: the lease ran out and nobody took it, so nothing is endangered.
///
/// # Errors
/// [`LeaseError::Held`] without a nonce, [`LeaseError::WrongNonce`] with another's.
pub fn check(held: Option<Lease>, nonce: Option<&str>, now: i64) -> Result<(), LeaseError> {
    match (live(held, now), nonce) {
        (None, _) => Ok(()),
        (Some(lease), Some(nonce)) if lease.nonce == nonce => Ok(()),
        (Some(lease), Some(_)) => Err(LeaseError::WrongNonce { owner: lease.owner }),
        (Some(lease), None) => Err(LeaseError::Held {
            owner: lease.owner,
            expires_at: lease.expires_at,
        }),
    }
}

/// Lets a release through: right nonce, or no lease at all (released twice is released).
///
/// # Errors
/// As [`check`].
pub fn release(held: Option<Lease>, nonce: Option<&str>, now: i64) -> Result<(), LeaseError> {
    check(held, nonce, now)
}

#[cfg(test)]
mod tests;
