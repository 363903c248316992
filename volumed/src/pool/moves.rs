//! Volumes that move between nodes: what a pool does whose slices have their home in the bucket.

use std::fmt::Debug;

use async_trait::async_trait;
use log_disk::Epoch;

use super::PoolError;
use crate::disk::Serving;
use crate::volume::VolumeId;

/// How a volume is taken up.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// How its disk is served.
    pub serving: Serving,
    /// Its size, as the bucket says.
    pub size_bytes: u64,
    /// The epoch that is not waited for, whatever it has not uploaded.
    pub force_over: Option<Epoch>,
}

/// What was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// How large it is.
    pub size_bytes: u64,
    /// Whether anything is on it.
    pub written: bool,
}

/// Between nodes. Every call is idempotent: after a crash the same call comes again.
#[async_trait]
pub trait Moves: Send + Sync + Debug {
    /// Makes the disk of a volume this host's, and opens it. Its record is in the catalog already.
    ///
    /// # Errors
    /// [`PoolError::Unfit`] when another host has it and does not give it up.
    async fn claim(&self, id: &VolumeId, claim: &Claim) -> Result<Claimed, PoolError>;

    /// Takes a claim back, however far it came: what this host had of the disk is gone from it, and the disk is given up if it
    /// was this host's already.
    ///
    /// # Errors
    /// When the bucket does not answer, or this host does not.
    async fn unclaim(&self, id: &VolumeId) -> Result<(), PoolError>;

    /// Uploads everything and gives the disk up, so that any host may take it. It is served no more.
    ///
    /// # Errors
    /// [`PoolError::Unfit`] when another host has it.
    async fn release(&self, id: &VolumeId) -> Result<(), PoolError>;

    /// Stops giving a disk up. It may have come to it all the same.
    ///
    /// # Errors
    /// When the process that is at it does not end.
    async fn keep(&self, id: &VolumeId) -> Result<(), PoolError>;

    /// Removes this host's files of a disk; the bucket is not touched.
    ///
    /// # Errors
    /// When they cannot be removed.
    async fn forget(&self, id: &VolumeId) -> Result<(), PoolError>;

    /// Says whether the disk went on from another host, so that the bucket is not this one's to erase. Its process is ended.
    ///
    /// # Errors
    /// When the bucket does not answer.
    async fn is_elsewhere(&self, id: &VolumeId) -> Result<bool, PoolError>;
}
