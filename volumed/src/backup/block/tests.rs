use proptest::prelude::*;

use super::*;
use crate::backup::tests::{VOLUME, data_key, noise, small_block};

fn sealed(plain: &[u8], compression: Compression) -> (BackupKeys, Address, Bytes) {
    let keys = data_key().backup_keys();
    let address = Address::of(&keys, plain);
    let object = BlockCipher::new(&keys, VOLUME).seal(address, plain, compression);
    (keys, address, object)
}

#[test]
fn the_object_is_laid_out_as_the_byte_table_says() {
    let mut plain = small_block(1);
    plain[FRAME_BYTES..2 * FRAME_BYTES].copy_from_slice(&noise(5, FRAME_BYTES));
    let (_, address, object) = sealed(&plain, Compression::Lz4);
    assert_eq!(
        &object[..16],
        [
            &b"HGBK\x01\x00\x40\x00\x00\x00\x40\x00"[..],
            &u32::try_from(object.len()).unwrap().to_le_bytes()
        ]
        .concat()
    );
    assert_eq!(object[16..48], address.0);
    // Frame 0 lz4 and short, frame 1 raw, the others zero and without bytes.
    assert_eq!(object[68 + 3], 2);
    let first = u32::from_le_bytes([object[68], object[69], object[70], 0]) as usize;
    assert!(first < 1_000, "{first}");
    assert_eq!(
        object[72..76],
        [&(65_536_u32 + 16).to_le_bytes()[..3], &[1]].concat()
    );
    assert!(object[76..324].iter().all(|byte| *byte == 0));
    assert_eq!(object[340..344], crc32fast::hash(&object[..340]).to_le_bytes());
    assert_eq!(object.len(), 344 + first + 65_536 + 16 + 4);
    let end = object.len() - 4;
    assert_eq!(object[end..], crc32fast::hash(&object[..end]).to_le_bytes());
}

#[test]
fn a_frame_opens_with_nothing_but_the_documented_keys() {
    // What a reader written from docs/formats/backup.md alone does, without any of this module's helpers.
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    let mut plain = vec![0; BLOCK_BYTES];
    plain[..FRAME_BYTES].copy_from_slice(&noise(6, FRAME_BYTES));
    let (keys, address, object) = sealed(&plain, Compression::Lz4);
    assert_eq!(blake3::keyed_hash(&keys.address, &plain).as_bytes(), &address.0);
    let mut nonce = [0; 24];
    nonce[..20].copy_from_slice(&object[48..68]);
    let aad = [
        b"hangar-block-1:".as_slice(),
        VOLUME.as_bytes(),
        b":",
        &address.0,
        &[0, 0, 0, 0, 1],
    ]
    .concat();
    let cipher = chacha20poly1305::XChaCha20Poly1305::new(&(*keys.block_seal).into());
    let opened = cipher.decrypt(
        &nonce.into(),
        Payload {
            msg: &object[344..object.len() - 4],
            aad: &aad,
        },
    );
    assert!(opened.unwrap() == plain[..FRAME_BYTES]);
}

#[test]
fn sealing_twice_gives_the_same_object_and_another_codec_another_nonce() {
    let plain = small_block(2);
    let (_, _, first) = sealed(&plain, Compression::Lz4);
    let (_, _, again) = sealed(&plain, Compression::Lz4);
    let (_, _, zstd) = sealed(&plain, Compression::Zstd { level: 3 });
    assert_eq!(first, again);
    assert_ne!(first[48..68], zstd[48..68]);
}

#[test]
fn every_codec_opens_again() {
    for compression in [Compression::Lz4, Compression::Zstd { level: 3 }] {
        let mut plain = small_block(3);
        plain[3 * FRAME_BYTES..4 * FRAME_BYTES].copy_from_slice(&noise(7, FRAME_BYTES));
        *plain.last_mut().unwrap() = 1;
        let (keys, address, object) = sealed(&plain, compression);
        let open = BlockCipher::new(&keys, VOLUME).open(address, &object).unwrap();
        assert!(open.plain == plain);
        let data: Vec<usize> = (0..FRAMES).filter(|frame| !open.zero_frames[*frame]).collect();
        assert_eq!(data, [0, 3, 63]);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let mut plain = small_block(4);
    plain[9 * FRAME_BYTES..9 * FRAME_BYTES + 4].copy_from_slice(b"tail");
    let (keys, address, object) = sealed(&plain, Compression::Lz4);
    let cipher = BlockCipher::new(&keys, VOLUME);
    let header = cipher.open_header(address, &object).unwrap();
    let (first, second) = (header.frame_range(0), header.frame_range(9));
    for at in 0..object.len() {
        let mut damaged = object.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let flaw = cipher.open(address, &damaged).unwrap_err();
        let at = at as u64;
        let expected = match at {
            0..4 => Flaw::Magic,
            4..6 => Flaw::Version {
                version: u16::from_le_bytes([damaged[4], damaged[5]]),
            },
            6..344 => Flaw::Header,
            _ if first.contains(&at) => Flaw::Frame { frame: 0 },
            _ if second.contains(&at) => Flaw::Frame { frame: 9 },
            _ => Flaw::Trailer,
        };
        assert_eq!(flaw, expected, "byte {at}");
    }
}

#[test]
fn an_object_cut_anywhere_or_longer_is_not_taken() {
    let (keys, address, object) = sealed(&small_block(5), Compression::Lz4);
    let cipher = BlockCipher::new(&keys, VOLUME);
    for len in 0..object.len() {
        let flaw = cipher.open(address, &object[..len]).unwrap_err();
        assert!(
            matches!(flaw, Flaw::Length { found_bytes, .. } if found_bytes == len as u64),
            "{len}: {flaw}"
        );
    }
    let longer = [object.as_ref(), &[0]].concat();
    assert!(matches!(cipher.open(address, &longer), Err(Flaw::Length { .. })));
}

#[test]
fn an_object_under_another_address_or_volume_is_not_taken() {
    let (keys, address, object) = sealed(&small_block(6), Compression::Lz4);
    let (_, other_address, other) = sealed(&small_block(7), Compression::Lz4);
    let cipher = BlockCipher::new(&keys, VOLUME);
    assert_eq!(cipher.open(other_address, &object), Err(Flaw::HeaderSeal));
    assert_eq!(cipher.open(address, &other), Err(Flaw::HeaderSeal));
    assert_eq!(
        BlockCipher::new(&keys, "vol_other").open(address, &object),
        Err(Flaw::HeaderSeal)
    );
}

#[test]
fn a_frame_table_rewritten_with_right_checksums_does_not_authenticate() {
    let (keys, address, object) = sealed(&small_block(8), Compression::Lz4);
    let mut forged = object.to_vec();
    // Declares the second frame raw where it is zero; a forger knows how to compute a CRC.
    forged[68 + 4 + 3] = 1;
    let crc = crc32fast::hash(&forged[..340]).to_le_bytes();
    forged[340..344].copy_from_slice(&crc);
    assert_eq!(
        BlockCipher::new(&keys, VOLUME).open(address, &forged),
        Err(Flaw::HeaderSeal)
    );
}

#[test]
fn incompressible_frames_cost_their_tag_only() {
    let plain = noise(8, BLOCK_BYTES);
    let (_, _, object) = sealed(&plain, Compression::Lz4);
    assert_eq!(object.len(), 344 + 64 * (65_536 + 16) + 4);
}

#[test]
fn addresses_are_lower_case_hexadecimal_and_nothing_else() {
    let address = Address([0xab; 32]);
    assert_eq!(Address::parse(&address.to_string()), Some(address));
    assert_eq!(Address::parse(&address.to_string().to_uppercase()), None);
    assert_eq!(Address::parse("ab"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn prop_arbitrary_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..2_000), own_magic: bool) {
        let mut bytes = bytes;
        if own_magic && bytes.len() >= 6 {
            bytes[..6].copy_from_slice(b"HGBK\x01\0");
        }
        let keys = data_key().backup_keys();
        prop_assert!(BlockCipher::new(&keys, VOLUME).open(Address([0; 32]), &bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn prop_blocks_open_to_what_was_sealed(
        frames in prop::collection::btree_map(0..FRAMES, (any::<u64>(), 1..FRAME_BYTES, any::<bool>()), 1..5),
    ) {
        let mut plain = vec![0; BLOCK_BYTES];
        for (frame, (seed, len, noisy)) in &frames {
            let at = frame * FRAME_BYTES;
            let content = if *noisy { noise(*seed, *len) } else { vec![seed.to_le_bytes()[0] | 1; *len] };
            plain[at..at + len].copy_from_slice(&content);
        }
        let (keys, address, object) = sealed(&plain, Compression::Lz4);
        let open = BlockCipher::new(&keys, VOLUME).open(address, &object).unwrap();
        prop_assert!(open.plain == plain);
        for frame in 0..FRAMES {
            prop_assert_eq!(open.zero_frames[frame], !frames.contains_key(&frame));
        }
    }
}
