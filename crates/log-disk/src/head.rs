//! PURE. HEAD: the one object of a disk that changes, by compare-and-swap only, and that is never deleted.

use crate::fields::{Fields, Sink, begin, check_crc};
use crate::seal::{Kind, Place, Salt, Sealer, TAG_BYTES};
use crate::units::LBA_END;
use crate::{DiskId, Epoch, Flaw, JournalId, ObjectSeq};

const MAGIC: [u8; 4] = *b"HGHD";
const VERSION: u16 = 1;
const STREAM_BYTES: usize = 36;
const CHECKPOINT_BYTES: usize = 44;
const HAS_CHECKPOINT: u8 = 1;
const IS_DELETED: u8 = 2;
/// Most disks in a line of forks of forks.
pub const BASES_MAX: usize = 64;
/// Most snapshots of a disk.
pub const SNAPSHOTS_MAX: usize = 4096;

/// Who wrote which part of the sequence of objects.
///
/// A data object counts when its epoch has a stream, its seq is `begin` or later, and not later than the next stream's
/// `after`. So whatever an epoch that was replaced still uploads, and whenever it arrives, never counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The epoch.
    pub epoch: Epoch,
    /// The journal it is written from.
    pub owner: JournalId,
    /// Its first object's seq, at least.
    pub begin: ObjectSeq,
    /// The last data object of the streams before it that counts.
    pub after: ObjectSeq,
}

/// Which checkpoint to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRef {
    /// +1 each.
    pub number: u64,
    /// Its object's seq.
    pub seq: ObjectSeq,
    /// Its object's epoch.
    pub epoch: Epoch,
    /// How many bytes of the object must be read to open it.
    pub front_bytes: u64,
    /// Bytes of the object.
    pub total_bytes: u64,
    /// The last data object that it holds.
    pub data_seq: ObjectSeq,
}

/// A point in time that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, 1 to 255 bytes.
    pub name: String,
    /// The disk's size then, in blocks.
    pub size_blocks: u64,
    /// The map then.
    pub checkpoint: CheckpointRef,
}

/// A disk that this one, or one that it was forked from, was forked from: its objects up to `last` are ours to read, and kept
/// for us by a [`Pin`](crate::Pin) there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Which disk.
    pub disk: DiskId,
    /// Its last object that can be ours; the next base's, or our own, have higher seqs.
    pub last: ObjectSeq,
    /// Number of the checkpoint that was forked: what the pin there says.
    pub number: u64,
    /// Its data key, wrapped by the cluster's.
    pub wrapped_key: Vec<u8>,
}

/// The content of HEAD; little endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `HGHD` |
/// | 4 | 2 | version, 1 |
/// | 6 | 1 | bytes of the wrapped key |
/// | 7 | 1 | sum of 1 when there is a checkpoint and 2 when the disk is deleted |
/// | 8 | 16 | disk |
/// | 24 | 8 | revision: +1 each |
/// | 32 | 8 | size in blocks |
/// | 40 | 4 | epoch: +1 each claim |
/// | 44 | 16 | the claimant's journal |
/// | 60 | 8 | salt of the writer |
/// | 68 | 4 | streams |
/// | 72 | 4 | snapshots |
/// | 76 | 4 | bases |
/// | 80 | 44 | the checkpoint, when there is one |
/// | | | wrapped data key |
/// | | | bases: disk (16), last seq (8), number (8), bytes of the wrapped key (1), wrapped key |
/// | | 36 each | streams: epoch (4), owner (16), begin (8), after (8) |
/// | | | snapshots: name's bytes (1), name, size (8), checkpoint (44) |
/// | | 16 | seal of nothing, with everything before as additional data; place: salt, epoch, revision, part 0 |
/// | end − 4 | 4 | CRC-32 of everything before |
///
/// A checkpoint is number (8), seq (8), epoch (4), bytes to open it (8), all bytes (8), data seq (8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose it is.
    pub disk: DiskId,
    /// +1 at each change: no two versions of a HEAD are alike.
    pub revision: u64,
    /// The disk's size in blocks. Never falls.
    pub size_blocks: u64,
    /// The newest claim. Its stream is missing as long as the claimant has not found out where the one before ended.
    pub epoch: Epoch,
    /// Who claimed.
    pub owner: JournalId,
    /// The data key, wrapped by the cluster's.
    pub wrapped_key: Vec<u8>,
    /// Who wrote what, oldest first; those that a checkpoint covers may be left out, the newest never.
    pub streams: Vec<Stream>,
    /// Where replay begins; `None` before the first.
    pub checkpoint: Option<CheckpointRef>,
    /// Points in time that are kept.
    pub snapshots: Vec<Snapshot>,
    /// The disks that this one was forked from, the eldest first; empty for most.
    pub bases: Vec<Base>,
    /// The disk is gone for good: nobody may claim it, fork it, or name a snapshot of it. What its forks need is still there.
    pub deleted: bool,
}

impl Head {
    /// Returns the HEAD of a disk that nobody has claimed yet.
    #[must_use]
    pub fn new(disk: DiskId, size_blocks: u64, wrapped_key: Vec<u8>) -> Self {
        Self {
            disk,
            revision: 1,
            size_blocks,
            epoch: Epoch(0),
            owner: JournalId([0; 16]),
            wrapped_key,
            streams: Vec::new(),
            checkpoint: None,
            snapshots: Vec::new(),
            bases: Vec::new(),
            deleted: false,
        }
    }

    /// Returns the HEAD of a new disk that begins as a snapshot of this one. No data moves: its map is the snapshot's, which
    /// refers to objects of this disk and of those before it.
    #[must_use]
    pub fn fork(&self, snapshot: &Snapshot, disk: DiskId, wrapped_key: Vec<u8>) -> Self {
        let mut bases = self.bases.clone();
        bases.push(Base {
            disk: self.disk,
            last: snapshot.checkpoint.seq,
            number: snapshot.checkpoint.number,
            wrapped_key: self.wrapped_key.clone(),
        });
        Self {
            checkpoint: Some(snapshot.checkpoint),
            bases,
            ..Self::new(disk, snapshot.size_blocks, wrapped_key)
        }
    }

    /// Returns the HEAD of this disk once it is deleted: in an epoch of its own, so that its owner, if it has one, stops.
    #[must_use]
    pub fn tombstone(&self) -> Self {
        Self {
            revision: self.revision + 1,
            epoch: self.epoch.next(),
            owner: JournalId([0; 16]),
            deleted: true,
            ..self.clone()
        }
    }

    /// Returns a snapshot by its name.
    #[must_use]
    pub fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == name)
    }

    /// Returns the newest stream: whose objects and whose journal hold the disk's newest state.
    #[must_use]
    pub fn stream(&self) -> Option<&Stream> {
        self.streams.last()
    }

    /// Says whether a data object counts, as far as its name can tell.
    #[must_use]
    pub fn counts(&self, seq: ObjectSeq, epoch: Epoch) -> bool {
        let Some(index) = self.streams.iter().position(|stream| stream.epoch == epoch) else {
            return false;
        };
        let end = self.streams[index + 1..].iter().map(|stream| stream.after).min();
        seq >= self.streams[index].begin && end.is_none_or(|end| seq <= end)
    }

    /// Forgets streams none of whose objects come after the checkpoint: it holds what they wrote. The newest stays.
    pub fn forget_covered_streams(&mut self) {
        let Some(checkpoint) = self.checkpoint else {
            return;
        };
        while let [_, next, ..] = self.streams[..]
            && next.after <= checkpoint.data_seq
        {
            self.streams.remove(0);
        }
    }

    /// Makes the object.
    ///
    /// # Panics
    /// When a name or the wrapped key is longer than 255 bytes.
    #[must_use]
    pub fn encode(&self, sealer: &Sealer, salt: Salt) -> Vec<u8> {
        let short = |bytes: &[u8]| match u8::try_from(bytes.len()) {
            Ok(len) => len,
            Err(_) => panic!("{} bytes where 255 fit", bytes.len()),
        };
        let mut out = Vec::new();
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u8(short(&self.wrapped_key));
        let checkpoint = if self.checkpoint.is_some() {
            HAS_CHECKPOINT
        } else {
            0
        };
        out.put_u8(checkpoint | if self.deleted { IS_DELETED } else { 0 });
        out.put(&self.disk.0);
        out.put_u64(self.revision);
        out.put_u64(self.size_blocks);
        out.put_u32(self.epoch.0);
        out.put(&self.owner.0);
        out.put(&salt.0);
        out.put_len(self.streams.len());
        out.put_len(self.snapshots.len());
        out.put_len(self.bases.len());
        if let Some(checkpoint) = &self.checkpoint {
            put_checkpoint(&mut out, checkpoint);
        }
        out.put(&self.wrapped_key);
        for base in &self.bases {
            out.put(&base.disk.0);
            out.put_u64(base.last.0);
            out.put_u64(base.number);
            out.put_u8(short(&base.wrapped_key));
            out.put(&base.wrapped_key);
        }
        for stream in &self.streams {
            out.put_u32(stream.epoch.0);
            out.put(&stream.owner.0);
            out.put_u64(stream.begin.0);
            out.put_u64(stream.after.0);
        }
        for snapshot in &self.snapshots {
            out.put_u8(short(snapshot.name.as_bytes()));
            out.put(snapshot.name.as_bytes());
            out.put_u64(snapshot.size_blocks);
            put_checkpoint(&mut out, &snapshot.checkpoint);
        }
        let seal = sealer.seal(Kind::Head, place(salt, self.epoch, self.revision), &out, &[]);
        out.put(&seal);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// Reads the object.
    ///
    /// # Errors
    /// [`Flaw`]; [`Flaw::Elsewhere`] when it is another disk's.
    pub fn decode(sealer: &Sealer, bytes: &[u8]) -> Result<Self, Flaw> {
        let (head, salt) = Self::read(bytes)?;
        if head.disk != sealer.disk() {
            return Err(Flaw::Elsewhere);
        }
        let sealed_at = bytes.len() - 4 - TAG_BYTES;
        let place = place(salt, head.epoch, head.revision);
        sealer.open(
            Kind::Head,
            place,
            &bytes[..sealed_at],
            &bytes[sealed_at..bytes.len() - 4],
        )?;
        Ok(head)
    }

    /// Returns the wrapped data key, which is needed before the seal can be looked at.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn wrapped_key(bytes: &[u8]) -> Result<Vec<u8>, Flaw> {
        Self::read(bytes).map(|(head, _)| head.wrapped_key)
    }

    fn read(bytes: &[u8]) -> Result<(Self, Salt), Flaw> {
        let mut fields = Fields::new(bytes);
        begin(&mut fields, MAGIC, VERSION)?;
        let body = check_crc(bytes)?;
        let clear = body
            .get(..body.len().saturating_sub(TAG_BYTES))
            .ok_or(Flaw::Cut)?;
        let fields = Fields::new(clear.get(6..).ok_or(Flaw::Cut)?);
        let (head, salt) = read_fields(fields).ok_or(Flaw::Fields)?;
        let ascend = head.streams.is_sorted_by(|a, b| a.epoch < b.epoch);
        let claimed = head
            .streams
            .last()
            .is_none_or(|stream| stream.epoch <= head.epoch);
        let one_after_the_other = head.bases.is_sorted_by(|a, b| a.last < b.last)
            && head.bases.iter().all(|base| base.disk != head.disk)
            && (head.bases.is_empty() || head.checkpoint.is_some());
        if ascend && claimed && one_after_the_other && head.size_blocks <= LBA_END {
            Ok((head, salt))
        } else {
            Err(Flaw::Fields)
        }
    }
}

fn place(salt: Salt, epoch: Epoch, revision: u64) -> Place {
    Place {
        salt,
        epoch,
        number: revision,
        part: 0,
    }
}

fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &CheckpointRef) {
    out.put_u64(checkpoint.number);
    out.put_u64(checkpoint.seq.0);
    out.put_u32(checkpoint.epoch.0);
    out.put_u64(checkpoint.front_bytes);
    out.put_u64(checkpoint.total_bytes);
    out.put_u64(checkpoint.data_seq.0);
}

fn checkpoint(fields: &mut Fields<'_>) -> Option<CheckpointRef> {
    Some(CheckpointRef {
        number: fields.u64()?,
        seq: ObjectSeq(fields.u64()?),
        epoch: Epoch(fields.u32()?),
        front_bytes: fields.u64()?,
        total_bytes: fields.u64()?,
        data_seq: ObjectSeq(fields.u64()?),
    })
}

fn read_fields(mut fields: Fields<'_>) -> Option<(Head, Salt)> {
    let wrapped_bytes = usize::from(fields.u8()?);
    let flags = fields.u8()?;
    if flags & !(HAS_CHECKPOINT | IS_DELETED) != 0 {
        return None;
    }
    let disk = DiskId(fields.array()?);
    let (revision, size_blocks) = (fields.u64()?, fields.u64()?);
    let (epoch, owner) = (Epoch(fields.u32()?), JournalId(fields.array()?));
    let salt = Salt(fields.array()?);
    let (streams, snapshots) = (fields.u32()? as usize, fields.u32()? as usize);
    let bases = fields.u32()? as usize;
    let newest = if flags & HAS_CHECKPOINT != 0 {
        Some(checkpoint(&mut fields)?)
    } else {
        None
    };
    let wrapped_key = fields.bytes(wrapped_bytes)?.to_vec();
    if bases > BASES_MAX {
        return None;
    }
    let bases = (0..bases)
        .map(|_| {
            let (disk, last, number) = (DiskId(fields.array()?), ObjectSeq(fields.u64()?), fields.u64()?);
            let bytes = usize::from(fields.u8()?);
            Some(Base {
                disk,
                last,
                number,
                wrapped_key: fields.bytes(bytes)?.to_vec(),
            })
        })
        .collect::<Option<Vec<_>>>()?;
    if streams > fields.room_for(STREAM_BYTES) || snapshots > fields.room_for(1 + 8 + CHECKPOINT_BYTES) {
        return None;
    }
    let streams = (0..streams)
        .map(|_| {
            Some(Stream {
                epoch: Epoch(fields.u32()?),
                owner: JournalId(fields.array()?),
                begin: ObjectSeq(fields.u64()?),
                after: ObjectSeq(fields.u64()?),
            })
        })
        .collect::<Option<Vec<_>>>()?;
    let snapshots = (0..snapshots)
        .map(|_| {
            let bytes = usize::from(fields.u8()?);
            let name = String::from_utf8(fields.bytes(bytes)?.to_vec()).ok()?;
            let size_blocks = fields.u64()?;
            let checkpoint = checkpoint(&mut fields)?;
            Some(Snapshot {
                name,
                size_blocks,
                checkpoint,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    let head = Head {
        disk,
        revision,
        size_blocks,
        epoch,
        owner,
        wrapped_key,
        streams,
        checkpoint: newest,
        snapshots,
        bases,
        deleted: flags & IS_DELETED != 0,
    };
    fields.is_empty().then_some((head, salt))
}

#[cfg(test)]
mod tests;
