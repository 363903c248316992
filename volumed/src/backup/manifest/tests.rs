use proptest::prelude::*;

use super::*;
use crate::backup::block::BLOCK_BYTES;
use crate::backup::tests::{VOLUME, cluster_key, data_key, head_of, snapshot, time};

fn manifest() -> Manifest {
    let mut head = head_of(VOLUME, "vs_2", 5 * BLOCK_BYTES as u64);
    head.parent = Some("vs_1".to_owned());
    head.stored_bytes = 4_711;
    head.data_blocks = 2;
    Manifest {
        head,
        blocks: vec![
            BlockRef::Data {
                address: Address([1; 32]),
                writer: 1,
            },
            BlockRef::Zero,
            BlockRef::Undefined,
            BlockRef::Zero,
            BlockRef::Data {
                address: Address([2; 32]),
                writer: 0,
            },
        ],
        writers: vec!["vs_1".to_owned(), "vs_2".to_owned()],
    }
}

fn encoded(manifest: &Manifest) -> Bytes {
    manifest.encode(&data_key().backup_keys(), &snapshot("vs_2"))
}

fn decode(object: &[u8]) -> Result<Decoded<Manifest>, Flaw> {
    Manifest::decode(&cluster_key(), &snapshot("vs_2"), object)
}

#[test]
fn a_manifest_reads_back() {
    let manifest = manifest();
    assert_eq!(decode(&encoded(&manifest)).unwrap(), Decoded::Complete(manifest));
}

#[test]
fn the_object_is_laid_out_as_the_byte_table_says() {
    let manifest = manifest();
    let object = encoded(&manifest);
    assert_eq!(&object[..8], b"HGMF\x01\x00\x01\x00");
    let facts = u32::from_le_bytes([object[8], object[9], object[10], object[11]]) as usize;
    let blocks = u32::from_le_bytes([object[12], object[13], object[14], object[15]]) as usize;
    assert_eq!(object.len(), 125 + facts + blocks + 4);
    assert_eq!(object[16..101], manifest.head.wrapped_key.to_bytes());
    assert_eq!(object[121..125], crc32fast::hash(&object[..121]).to_le_bytes());
    let end = object.len() - 4;
    assert_eq!(object[end..], crc32fast::hash(&object[..end]).to_le_bytes());
}

#[test]
fn the_block_list_is_laid_out_as_the_byte_table_says() {
    let mut expected = Vec::new();
    expected.extend_from_slice(&[0, 0, 0x40, 1, 0, 0, 0, 0]); // 20 MiB
    expected.extend_from_slice(&[5, 0, 0, 0, 2, 0, 0, 0]);
    expected.extend_from_slice(b"\x04vs_1\x04vs_2");
    expected.extend_from_slice(&[0b01_00_01_10, 0b10]);
    expected.extend_from_slice(&[1; 32]);
    expected.extend_from_slice(&[1, 0, 0, 0]);
    expected.extend_from_slice(&[2; 32]);
    expected.extend_from_slice(&[0, 0, 0, 0]);
    assert_eq!(blocks::encode(&manifest()), expected);
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let object = encoded(&manifest());
    let facts_end = usize::try_from(facts_end(&object).unwrap()).unwrap();
    for at in 0..object.len() {
        let mut damaged = object.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let flaw = decode(&damaged).unwrap_err();
        let expected = match at {
            0..4 => Flaw::Magic,
            4..6 => Flaw::Version {
                version: u16::from_le_bytes([damaged[4], damaged[5]]),
            },
            6..125 => Flaw::Header,
            _ if at < facts_end => Flaw::Facts,
            _ if at < object.len() - 4 => Flaw::Blocks,
            _ => Flaw::Trailer,
        };
        assert_eq!(flaw, expected, "byte {at}");
    }
}

#[test]
fn a_manifest_cut_anywhere_or_longer_is_not_taken() {
    let object = encoded(&manifest());
    for len in 0..object.len() {
        assert!(
            matches!(decode(&object[..len]), Err(Flaw::Length { .. })),
            "{len}"
        );
    }
    assert!(matches!(
        decode(&[object.as_ref(), &[0]].concat()),
        Err(Flaw::Length { .. })
    ));
}

#[test]
fn facts_open_without_the_block_list() {
    let manifest = manifest();
    let object = encoded(&manifest);
    let end = usize::try_from(facts_end(&object).unwrap()).unwrap();
    let head = decode_head(&cluster_key(), &snapshot("vs_2"), &object[..end]);
    assert_eq!(head.unwrap(), Decoded::Complete(manifest.head));
}

#[test]
fn a_manifest_copied_to_another_key_does_not_open() {
    let object = encoded(&manifest());
    let other = Manifest::decode(&cluster_key(), &snapshot("vs_3"), &object);
    assert_eq!(other, Err(Flaw::Facts));
    let volume = SnapshotRef::new("vol_other", "vs_2").unwrap();
    assert!(matches!(
        Manifest::decode(&cluster_key(), &volume, &object),
        Err(Flaw::Unwrap(_))
    ));
}

#[test]
fn another_cluster_key_is_named_and_not_called_damage() {
    let stranger = ClusterKey::from_bytes([8; 32]);
    let flaw = Manifest::decode(&stranger, &snapshot("vs_2"), &encoded(&manifest())).unwrap_err();
    let text = flaw.to_string();
    assert!(text.contains(&cluster_key().id().to_string()), "{text}");
    assert!(text.contains(&stranger.id().to_string()), "{text}");
}

#[test]
fn a_void_manifest_is_twenty_bytes_and_reads_back() {
    let object = encode_void(time(5));
    assert_eq!(object.len(), 20);
    assert_eq!(&object[..8], b"HGMF\x01\x00\x02\x00");
    assert_eq!(object[8..16], time(5).as_millisecond().to_le_bytes());
    assert_eq!(decode(&object).unwrap(), Decoded::Void { voided_at: time(5) });
    for at in 6..object.len() {
        let mut damaged = object.to_vec();
        damaged[at] ^= 0x10;
        assert!(decode(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn the_digest_depends_on_content_and_not_on_who_stored_it() {
    let mut manifest = manifest();
    let digest = manifest.content_digest();
    manifest.blocks[4] = BlockRef::Data {
        address: Address([2; 32]),
        writer: 1,
    };
    manifest.blocks[2] = BlockRef::Zero;
    assert_eq!(manifest.content_digest(), digest);
    manifest.blocks[1] = BlockRef::Data {
        address: Address([1; 32]),
        writer: 1,
    };
    assert_ne!(manifest.content_digest(), digest);
}

#[test]
fn facts_of_a_later_program_still_open() {
    let json = facts::encode(&manifest().head);
    let text = String::from_utf8(json).unwrap();
    let later = text.replacen('{', "{\"mood\":\"good\",", 1);
    assert_eq!(
        facts::decode(later.as_bytes(), manifest().head.wrapped_key),
        Some(manifest().head)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn prop_block_lists_read_back(states in prop::collection::vec((0..3_u8, any::<[u8; 32]>(), 0..3_u32), 0..70)) {
        let blocks: Vec<BlockRef> = states
            .into_iter()
            .map(|(state, address, writer)| match state {
                0 => BlockRef::Undefined,
                1 => BlockRef::Zero,
                _ => BlockRef::Data { address: Address(address), writer },
            })
            .collect();
        let head = head_of(VOLUME, "vs_2", (blocks.len() * BLOCK_BYTES) as u64);
        let writers = ["a", "b-1", "c_2"].map(str::to_owned).to_vec();
        let manifest = Manifest { head, blocks, writers };
        let decoded = blocks::decode(manifest.head.clone(), &blocks::encode(&manifest));
        prop_assert_eq!(decoded, Some(manifest));
    }

    #[test]
    fn prop_arbitrary_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..600), front in 0..3_u8) {
        let mut bytes = bytes;
        if front > 0 && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&[b'H', b'G', b'M', b'F', 1, 0, front, 0]);
        }
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn prop_arbitrary_block_lists_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _read = blocks::decode(manifest().head, &bytes);
        let own = [&[0, 0, 0x40, 1, 0, 0, 0, 0, 5, 0, 0, 0][..], &bytes].concat();
        let _read = blocks::decode(manifest().head, &own);
    }
}
