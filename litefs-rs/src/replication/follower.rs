//! PURE. What a replica does with what the primary sends.

use std::time::{Duration, Instant};

use ltx::{Header, NodeId, Pos, Txid};

use super::{frame::FrameError, position_map::PositionMap};
use crate::name::{DatabaseName, NameError};

/// How long a primary may be silent: four of its heartbeats.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);

/// What comes from the primary, and what was done with it.
#[derive(Debug, Clone)]
pub enum Input {
    /// Bytes came, whatever they are. Time has passed.
    Heard,
    /// The header of an LTX file. The rest follows, and is not checked yet.
    Ltx {
        /// Of which database, as the primary calls it.
        database: String,
        /// The header.
        header: Header,
    },
    /// A file that was to be applied was read to its end, is sound, and was.
    Applied {
        /// To which database.
        database: DatabaseName,
        /// Where it is now.
        pos: Pos,
        /// When the primary made the transaction, in milliseconds since 1970.
        timestamp_ms: i64,
    },
    /// The primary has sent everything once.
    Ready,
    /// The primary's time, in milliseconds since 1970.
    Heartbeat(i64),
    /// Backups have come so far.
    HighWaterMark {
        /// Of which database, as the primary calls it.
        database: String,
        /// The last transaction of theirs.
        txid: Txid,
    },
    /// The lease is ours.
    Handoff(String),
    /// The stream came to its end.
    End,
    /// The stream is none.
    Broken(FrameError),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write the file, check it, apply it; then [`Input::Applied`].
    Apply(DatabaseName),
    /// Read the file to its end and check it: we made it ourselves, and brought it to the primary. Drop it, unless it is not here;
    /// then [`Input::Applied`].
    Verify(DatabaseName),
    /// Read the file to its end and drop it: none of our databases can be called so.
    Skip(NameError),
    /// This node has everything that the primary had: applications may start.
    BecomeReady,
    /// Replication is as far as the primary's time.
    Reached {
        /// In milliseconds since 1970.
        timestamp_ms: i64,
    },
    /// Keep transactions from this one on.
    Retain {
        /// Of which database.
        database: DatabaseName,
        /// The last transaction that backups have.
        txid: Txid,
    },
    /// Take the lease over.
    TakeLease(String),
    /// Close the stream. Whoever connects again sends the positions as they are then.
    Disconnect(Disconnect),
}

/// Why a stream is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The primary ended it.
    #[error("the primary ended the stream")]
    Ended,
    /// The primary handed its lease over.
    #[error("the primary handed its lease over")]
    HandedOff,
    /// What came is no stream.
    #[error("read the stream")]
    Broken(#[source] FrameError),
    /// A transaction does not follow upon what we have.
    #[error("position mismatch on db \"{database}\": {ours} <> {theirs}")]
    Mismatch {
        /// Of which database.
        database: DatabaseName,
        /// Where it is here.
        ours: Pos,
        /// Where it should be.
        theirs: Pos,
    },
    /// Nothing came for longer than heartbeats take.
    #[error("nothing heard of the primary for {} s", SILENCE_MAX.as_secs())]
    Silent,
}

/// A replica that reads a stream.
#[derive(Debug, Clone)]
pub struct Follower {
    node: NodeId,
    positions: PositionMap,
    ready: bool,
    closed: bool,
    heard: Instant,
}

impl Follower {
    /// Begins a stream.
    ///
    /// * `node`: who we are.
    /// * `positions`: what was sent to the primary.
    /// * `ready`: whether this node once had everything.
    #[must_use]
    pub fn new(now: Instant, node: NodeId, positions: PositionMap, ready: bool) -> Self {
        Self {
            node,
            positions,
            ready,
            closed: false,
            heard: now,
        }
    }

    /// Returns when the primary must have been heard of.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.heard + SILENCE_MAX
    }

    /// Takes an input. After [`Output::Disconnect`] nothing is done any more.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        if self.closed {
            return;
        }
        match input {
            Input::Tick if now >= self.deadline() => self.disconnect(Disconnect::Silent, out),
            Input::Tick => {}
            Input::Heard => self.heard = now,
            Input::Ltx { database, header } => self.ltx(&database, &header, out),
            Input::Applied {
                database,
                pos,
                timestamp_ms,
            } => {
                self.positions.insert(database, pos);
                // It took its time, in which nothing was read.
                self.heard = now;
                // Before everything was sent once, old transactions say nothing of how far we are.
                if self.ready {
                    out.push(Output::Reached { timestamp_ms });
                }
            }
            Input::Ready => {
                if !std::mem::replace(&mut self.ready, true) {
                    out.push(Output::BecomeReady);
                }
            }
            Input::Heartbeat(timestamp_ms) => out.push(Output::Reached { timestamp_ms }),
            Input::HighWaterMark { database, txid } => {
                if let Ok(database) = database.parse() {
                    out.push(Output::Retain { database, txid });
                }
            }
            Input::Handoff(lease) => {
                out.push(Output::TakeLease(lease));
                self.disconnect(Disconnect::HandedOff, out);
            }
            Input::End => self.disconnect(Disconnect::Ended, out),
            Input::Broken(error) => self.disconnect(Disconnect::Broken(error), out),
        }
    }

    fn ltx(&mut self, database: &str, header: &Header, out: &mut Vec<Output>) {
        let database: DatabaseName = match database.parse() {
            Ok(database) => database,
            Err(error) => return out.push(Output::Skip(error)),
        };
        if header.node == self.node && header.node != NodeId::NONE {
            return out.push(Output::Verify(database));
        }
        let ours = self.positions.get(&database).copied().unwrap_or_default();
        let theirs = header.pre_apply_pos();
        if header.is_snapshot() || ours == theirs {
            return out.push(Output::Apply(database));
        }
        let mismatch = Disconnect::Mismatch {
            database,
            ours,
            theirs,
        };
        self.disconnect(mismatch, out);
    }

    fn disconnect(&mut self, why: Disconnect, out: &mut Vec<Output>) {
        self.closed = true;
        out.push(Output::Disconnect(why));
    }
}

#[cfg(test)]
mod tests;
