//! PURE. What is asked of a bucket by work on disks that are not open: forking, deleting, looking at a snapshot.

use bytes::Bytes;

use crate::engine::{Etag, GotHead, HeadPut};
use crate::objects::{ObjectName, Role};
use crate::{DiskId, Pin, WantedParts};

/// What the driver is to do next, one thing at a time; it tries again itself until it has a definite answer, unless said
/// otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketAsk {
    /// Look at a disk's HEAD; answer with [`BucketAnswer::Head`].
    GetHead {
        /// Whose.
        disk: DiskId,
    },
    /// Replace a disk's HEAD if it still carries the version, or make it if there is none; answer with
    /// [`BucketAnswer::HeadPut`], [`HeadPut::Stale`] also when there is one.
    PutHead {
        /// Whose.
        disk: DiskId,
        /// Which version it must have; `None` when there must be none.
        expected: Option<Etag>,
        /// What it becomes.
        body: Bytes,
    },
    /// List a disk's pins, on one page of at least [`PINS_MAX`](crate::PINS_MAX); answer with [`BucketAnswer::Pins`].
    ListPins {
        /// Whose.
        disk: DiskId,
    },
    /// Put a pin if absent; answer with [`BucketAnswer::Done`] when it is there, whoever put it.
    PutPin {
        /// With which disk.
        disk: DiskId,
        /// Which.
        pin: Pin,
    },
    /// Delete a pin; answer with [`BucketAnswer::Done`] when it is gone.
    DeletePin {
        /// With which disk.
        disk: DiskId,
        /// Which.
        pin: Pin,
    },
    /// Read parts of objects; answer with [`BucketAnswer::Got`].
    Get(WantedParts),
    /// List a disk's objects of a role; answer with [`BucketAnswer::Listed`].
    List {
        /// Whose.
        disk: DiskId,
        /// Which.
        role: Role,
    },
    /// Delete objects; answer with [`BucketAnswer::Done`] when they are gone.
    Delete {
        /// Whose.
        disk: DiskId,
        /// Which.
        names: Vec<ObjectName>,
    },
}

/// What came of a [`BucketAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketAnswer {
    /// HEAD; [`GotHead::Unknown`] is asked for again.
    Head(GotHead),
    /// The swap.
    HeadPut(HeadPut),
    /// The pins.
    Pins(Vec<Pin>),
    /// The bytes, `None` where there is no such object.
    Got(Vec<Option<Bytes>>),
    /// The names, in any order.
    Listed(Vec<ObjectName>),
    /// Done.
    Done,
}

/// What follows an answer.
#[derive(Debug)]
pub enum BucketStep<T> {
    /// Something is to be done.
    Ask(BucketAsk),
    /// It is over.
    Over(T),
}
