use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testing::{DISK, SALT, damage, mend_crc, sealer};
use crate::{BLOCK_BYTES, Compression, DiskId, Epoch, Flaw, Lba, ObjectSeq, Sealer, Seq};

fn header() -> ObjectHeader {
    ObjectHeader {
        kind: ObjectKind::Data,
        disk: DISK,
        epoch: Epoch(4),
        seq: ObjectSeq(12),
        previous: ObjectSeq(11),
        journal_seq: Seq(99),
        size_blocks: 1 << 20,
        salt: SALT,
        wrapped_key: vec![1; 85],
    }
}

fn anywhere(blocks: u64) -> SourceRun {
    let source = Source::Object {
        object: ObjectSeq(1),
        at: 0,
    };
    SourceRun { blocks, source }
}

/// Runs with gaps of 0 and more between them, zeros where there is no byte; `noise` makes a block incompressible.
fn runs() -> impl Strategy<Value = Vec<(ToSeal, Bytes)>> {
    let run = (
        0..3_u64,
        1..=EXTENT_BLOCKS_MAX,
        prop::option::of((any::<u8>(), any::<bool>())),
    );
    prop::collection::vec(run, 0..12).prop_map(|runs| {
        let mut lba = 0;
        let mut out = Vec::new();
        for (gap, blocks, data) in runs {
            lba += gap;
            let sources = data.map(|_| anywhere(blocks)).into_iter().collect();
            let bytes = usize::try_from(blocks).unwrap() * BLOCK_BYTES;
            let data = data.map_or_else(Bytes::new, |(byte, noise)| {
                let mut hasher = blocks_of_noise(byte);
                (0..bytes)
                    .map(|_| if noise { hasher.next().unwrap() } else { byte })
                    .collect()
            });
            let run = ToSeal {
                lba: Lba(lba),
                blocks,
                origin: ObjectSeq(gap),
                sources,
            };
            out.push((run, data));
            lba += blocks;
        }
        out
    })
}

fn blocks_of_noise(seed: u8) -> impl Iterator<Item = u8> {
    let mut state = u64::from(seed) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

fn seal(runs: &[(ToSeal, Bytes)], compression: Compression) -> SealedObject {
    let (runs, data): (Vec<_>, Vec<_>) = runs.iter().cloned().unzip();
    seal_object(&sealer(), compression, header(), &runs, &data)
}

fn stored<'a>(object: &'a SealedObject, extent: &Extent) -> &'a [u8] {
    let at = |byte: u64| usize::try_from(byte).unwrap();
    &object.body[at(extent.stored.start)..at(extent.stored.end)]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Lz4),
        Just(Compression::Zstd { level: 1 })
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn prop_an_object_reads_as_it_was_written(runs in runs(), compression in compression()) {
        let object = seal(&runs, compression);
        let layout = Layout::open(&sealer(), &object.body).unwrap();
        prop_assert_eq!(&layout, &object.layout);
        prop_assert_eq!(layout.total_bytes, object.body.len() as u64);
        prop_assert!(Layout::front_bytes(&object.body).unwrap() <= layout.total_bytes);
        let mut at = 0;
        for (index, (run, data)) in runs.iter().enumerate() {
            let extent = &layout.extents[index];
            prop_assert_eq!((extent.lba, extent.blocks, extent.origin), (run.lba, run.blocks, run.origin));
            if !run.sources.is_empty() {
                let opened = layout.open_extent(&sealer(), index, stored(&object, extent)).unwrap();
                prop_assert_eq!(&opened, data);
                for block in 0..run.blocks {
                    prop_assert_eq!(layout.find(at), Some((index, block)));
                    at += 1;
                }
            } else {
                prop_assert!(extent.is_zero());
            }
        }
        prop_assert_eq!(u64::from(at), layout.data_blocks());
        prop_assert_eq!(layout.find(at), None);
    }

    #[test]
    fn prop_a_damaged_object_never_reads_as_something_else(
        runs in runs(),
        damages in prop::collection::vec(damage(), 1..4),
        mend in any::<bool>(),
    ) {
        let object = seal(&runs, Compression::Lz4);
        let mut bytes = object.body.to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        if mend {
            let front = usize::try_from(Layout::front_bytes(&bytes).unwrap_or(0)).unwrap();
            if front <= bytes.len() {
                mend_crc(&mut bytes[..front]);
            }
        }
        let Ok(layout) = Layout::open(&sealer(), &bytes) else { return Ok(()) };
        prop_assert_eq!(&layout, &object.layout);
        for (index, extent) in layout.extents.iter().enumerate().filter(|(_, extent)| !extent.is_zero()) {
            let at = |byte: u64| usize::try_from(byte).unwrap();
            if let Some(stored) = bytes.get(at(extent.stored.start)..at(extent.stored.end))
                && let Ok(opened) = layout.open_extent(&sealer(), index, stored)
            {
                prop_assert_eq!(&opened, &runs[index].1);
            }
        }
    }

    #[test]
    fn prop_arbitrary_bytes_behind_a_magic_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 100..400)) {
        bytes[..8].copy_from_slice(b"HGDO\x01\x00\x01\x00");
        prop_assert!(Layout::open(&sealer(), &bytes).is_err());
        let _any_length = Layout::front_bytes(&bytes);
    }
}

#[test]
fn an_extent_opens_in_its_own_place_only() {
    let run = |lba: u64| ToSeal {
        lba: Lba(lba),
        blocks: 1,
        origin: ObjectSeq(0),
        sources: vec![anywhere(1)],
    };
    let data = Bytes::from(vec![8; BLOCK_BYTES]);
    let object = seal_object(
        &sealer(),
        Compression::None,
        header(),
        &[run(1), run(2)],
        &[data.clone(), data],
    );
    let layout = &object.layout;
    let first = stored(&object, &layout.extents[0]);
    assert!(layout.open_extent(&sealer(), 0, first).is_ok());
    assert_eq!(layout.open_extent(&sealer(), 1, first), Err(Flaw::Seal));
    let other_disk = Sealer::new(&[3; 32], DiskId([8; 16]));
    assert_eq!(Layout::open(&other_disk, &object.body), Err(Flaw::Elsewhere));
    let other_key = Sealer::new(&[4; 32], DISK);
    assert_eq!(Layout::open(&other_key, &object.body), Err(Flaw::Seal));
}
