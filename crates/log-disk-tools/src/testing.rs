//! Disks made by hand, in a bucket in memory.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use log_disk::{
    BLOCK_BYTES, Checkpoint, CheckpointHeader, CheckpointRef, Compression, DiskId, Epoch, Head, JournalId,
    LEAF_BLOCKS, Lba, LeafRef, Location, ObjectFacts, ObjectHeader, ObjectKind, ObjectName, ObjectSeq,
    Objects, Role, RunMap, Salt, Sealer, Seq, Source, SourceRun, Stream, ToSeal, encode_leaf, head_key,
    seal_object,
};

use crate::{Bucket, BucketError, Image};

pub(crate) const DISK: DiskId = DiskId([7; 16]);
const SALT: Salt = Salt([9; 8]);
pub(crate) const SIZE_BLOCKS: u64 = 40_000;

/// A bucket in memory; the owner of the disk in it is this test.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// What each object holds: its runs with data.
    held: BTreeMap<ObjectName, Vec<(u64, u64)>>,
    last_data: u64,
    checkpoints: u64,
}

impl Bucket for Made {
    fn get(&mut self, key: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, BucketError> {
        Ok(self.objects.get(key).map(|object| {
            let range = range.unwrap_or(0..object.len() as u64);
            let end = usize::try_from(range.end).unwrap().min(object.len());
            let begin = usize::try_from(range.start).unwrap().min(end);
            Bytes::copy_from_slice(&object[begin..end])
        }))
    }

    fn list(&mut self, prefix: &str) -> Result<Vec<(String, u64)>, BucketError> {
        let found = self.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found
            .map(|(key, object)| (key.clone(), object.len() as u64))
            .collect())
    }
}

pub(crate) fn sealer() -> Sealer {
    Sealer::new(&[3; 32], DISK)
}

pub(crate) fn name(role: Role, seq: u64, epoch: u32) -> ObjectName {
    ObjectName {
        role,
        seq: ObjectSeq(seq),
        epoch: Epoch(epoch),
    }
}

/// First block, how many, what they are filled with (0 for zeros), and which data object wrote them first.
pub(crate) type Run = (u64, u64, u8, u64);

impl Made {
    /// Puts a data object after the one that was put last.
    pub(crate) fn data(&mut self, seq: u64, epoch: u32, runs: &[(u64, u64, u8)]) {
        let previous = self.last_data;
        self.last_data = seq;
        self.data_after(previous, seq, epoch, runs);
    }

    pub(crate) fn data_after(&mut self, previous: u64, seq: u64, epoch: u32, runs: &[(u64, u64, u8)]) {
        let runs: Vec<Run> = runs
            .iter()
            .map(|(lba, blocks, byte)| (*lba, *blocks, *byte, 0))
            .collect();
        self.object(ObjectKind::Data, previous, name(Role::Data, seq, epoch), &runs);
    }

    pub(crate) fn gc(&mut self, seq: u64, epoch: u32, runs: &[Run]) {
        self.object(ObjectKind::Gc, 0, name(Role::Gc, seq, epoch), runs);
    }

    fn object(&mut self, kind: ObjectKind, previous: u64, name: ObjectName, runs: &[Run]) {
        let header = ObjectHeader {
            kind,
            disk: DISK,
            epoch: name.epoch,
            seq: name.seq,
            previous: ObjectSeq(previous),
            journal_seq: Seq(if kind == ObjectKind::Data {
                name.seq.0 * 10
            } else {
                0
            }),
            size_blocks: if kind == ObjectKind::Data { SIZE_BLOCKS } else { 0 },
            salt: SALT,
            wrapped_key: b"a wrapped key".to_vec(),
        };
        let to_seal: Vec<ToSeal> = runs
            .iter()
            .map(|(lba, blocks, byte, origin)| ToSeal {
                lba: Lba(*lba),
                blocks: *blocks,
                origin: ObjectSeq(*origin),
                sources: if *byte == 0 {
                    Vec::new()
                } else {
                    let source = Source::Object {
                        object: ObjectSeq(0),
                        at: 0,
                    };
                    vec![SourceRun {
                        blocks: *blocks,
                        source,
                    }]
                },
            })
            .collect();
        let data: Vec<Bytes> = runs
            .iter()
            .map(|(_, blocks, byte, _)| {
                let blocks = if *byte == 0 {
                    0
                } else {
                    usize::try_from(*blocks).unwrap()
                };
                Bytes::from(vec![*byte; blocks * BLOCK_BYTES])
            })
            .collect();
        let sealed = seal_object(&sealer(), Compression::Lz4, header, &to_seal, &data);
        self.objects.insert(name.key(DISK), sealed.body.to_vec());
        let with_data = runs.iter().filter(|run| run.2 != 0);
        let held = with_data.map(|(lba, blocks, ..)| (*lba, *blocks)).collect();
        self.held.insert(name, held);
    }

    /// Puts a checkpoint whose map says that each run of blocks lies in the object named, in the order of its runs there.
    pub(crate) fn checkpoint(
        &mut self,
        seq: u64,
        epoch: u32,
        map: &[(u64, u64, ObjectName)],
    ) -> CheckpointRef {
        self.checkpoints += 1;
        let mut objects = Objects::default();
        let mut runs: BTreeMap<u32, RunMap<Location>> = BTreeMap::new();
        let mut live: BTreeMap<ObjectName, u64> = BTreeMap::new();
        for (lba, blocks, object) in map {
            let mut at = 0;
            for (start, count) in &self.held[object] {
                if (*start..start + count).contains(lba) {
                    at += lba - start;
                    break;
                }
                at += count;
            }
            let location = Location {
                object: object.seq,
                at: u32::try_from(at).unwrap(),
            };
            let leaf = u32::try_from(lba / LEAF_BLOCKS).unwrap();
            runs.entry(leaf).or_default().set(*lba, *blocks, location, |_| {});
            *live.entry(*object).or_default() += blocks;
        }
        for (object, held) in &self.held {
            let facts = ObjectFacts {
                role: object.role,
                epoch: object.epoch,
                bytes: self
                    .objects
                    .get(&object.key(DISK))
                    .map_or(1, |body| body.len() as u64),
                blocks: held.iter().map(|(_, blocks)| blocks).sum(),
                live: live.get(object).copied().unwrap_or_default(),
                born: 1,
                dead: 0,
            };
            objects.add(object.seq, facts);
        }
        let leaves: Vec<(u32, Vec<u8>)> = runs
            .iter()
            .map(|(leaf, runs)| (*leaf, encode_leaf(*leaf, runs)))
            .collect();
        let mut offset = Checkpoint::front_bytes(leaves.len(), self.held.len());
        let mut places = BTreeMap::new();
        for (leaf, plain) in &leaves {
            let bytes = Checkpoint::leaf_bytes(plain.len());
            let place = LeafRef {
                object: ObjectSeq(seq),
                epoch: Epoch(epoch),
                offset,
                bytes: u32::try_from(bytes).unwrap(),
            };
            places.insert(*leaf, place);
            offset += bytes;
        }
        let checkpoint = Checkpoint {
            header: CheckpointHeader {
                disk: DISK,
                epoch: Epoch(epoch),
                seq: ObjectSeq(seq),
                number: self.checkpoints,
                data_seq: ObjectSeq(self.last_data),
                journal_seq: Seq(self.last_data * 10),
                salt: SALT,
            },
            leaves: places,
            objects,
        };
        let (body, reference) = checkpoint.encode(&sealer(), &leaves);
        self.objects
            .insert(name(Role::Checkpoint, seq, epoch).key(DISK), body.to_vec());
        reference
    }

    /// Puts HEAD, for one epoch that wrote everything.
    pub(crate) fn head(&mut self, epoch: u32, checkpoint: Option<CheckpointRef>) {
        let mut head = Head::new(DISK, SIZE_BLOCKS, b"a wrapped key".to_vec());
        head.epoch = Epoch(epoch);
        head.checkpoint = checkpoint;
        head.streams.push(Stream {
            epoch: Epoch(epoch),
            owner: JournalId([5; 16]),
            begin: ObjectSeq(1),
            after: ObjectSeq(0),
        });
        self.objects.insert(head_key(DISK), head.encode(&sealer(), SALT));
    }

    pub(crate) fn remove(&mut self, name: ObjectName) {
        assert!(self.objects.remove(&name.key(DISK)).is_some());
    }

    /// Flips a bit of an object, `from_end` bytes before its end.
    pub(crate) fn flip(&mut self, name: ObjectName, from_end: usize) {
        let object = self.objects.get_mut(&name.key(DISK)).unwrap();
        let at = object.len() - from_end;
        object[at] ^= 1;
    }
}

/// An image in memory, of blocks that are each filled with one byte.
#[derive(Default)]
pub(crate) struct Picture {
    pub(crate) bytes: u64,
    blocks: BTreeMap<u64, u8>,
}

impl Picture {
    /// What a block is filled with.
    pub(crate) fn block(&self, lba: u64) -> u8 {
        assert!((lba + 1) * BLOCK_BYTES as u64 <= self.bytes);
        self.blocks.get(&lba).copied().unwrap_or_default()
    }
}

impl Image for Picture {
    fn set_len(&mut self, bytes: u64) -> std::io::Result<()> {
        self.bytes = bytes;
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        for (lba, block) in (offset / BLOCK_BYTES as u64..).zip(bytes.as_chunks::<BLOCK_BYTES>().0) {
            assert!(block.iter().all(|byte| *byte == block[0]), "block {lba}");
            self.blocks.insert(lba, block[0]);
        }
        Ok(())
    }
}
