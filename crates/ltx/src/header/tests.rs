use super::*;

fn sound() -> Header {
    Header {
        flags: Flags::NONE,
        page_size: PageSize::new(4096).unwrap(),
        commit_pages: 3,
        min_txid: Txid::new(5),
        max_txid: Txid::new(6),
        timestamp_ms: -1,
        pre_apply: Checksum::EMPTY_DATABASE,
        wal: Some(WalSpan {
            offset_bytes: 32,
            size_bytes: 4120,
            salt1: 1,
            salt2: 2,
        }),
        node: NodeId::new(u64::MAX),
    }
}

/// Both ways into the crate must refuse it: checking a header, and reading its bytes.
fn refused(header: &Header, version: Version) -> HeaderError {
    let error = header.check(version).unwrap_err();
    assert_eq!(Header::decode(&header.encode(), version), Err(error));
    error
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let header = sound();
    assert_eq!(Header::decode(&header.encode(), Version::V1), Ok(header));
    let other = Header {
        wal: None,
        min_txid: Txid::FIRST,
        pre_apply: Checksum::NONE,
        timestamp_ms: i64::MAX,
        flags: Flags::LZ4,
        ..header
    };
    assert_eq!(Header::decode(&other.encode(), Version::V1), Ok(other));
}

#[test]
fn what_a_header_says_of_itself_follows_from_its_fields() {
    let header = sound();
    assert!(!header.is_snapshot());
    assert_eq!(
        header.pre_apply_pos().to_string(),
        "0000000000000004/8000000000000000"
    );
    assert_eq!(
        header.file_name().to_string(),
        "0000000000000005-0000000000000006.ltx"
    );
}

#[test]
fn another_magic_is_no_ltx_file() {
    let mut bytes = sound().encode();
    bytes[3] = b'2';
    assert_eq!(Header::decode(&bytes, Version::V1), Err(HeaderError::Magic));
}

#[test]
fn each_version_has_its_own_flags() {
    let with = |flags| Header { flags, ..sound() };
    let lz4 = with(Flags::LZ4);
    assert_eq!(refused(&lz4, Version::V3), HeaderError::Flags { flags: 1 });
    let unchecked = Header {
        pre_apply: Checksum::NONE,
        ..with(Flags::NO_CHECKSUM)
    };
    assert_eq!(refused(&unchecked, Version::V1), HeaderError::Flags { flags: 2 });
    assert_eq!(unchecked.check(Version::V3), Ok(()));
    assert_eq!(
        refused(&with(Flags(4)), Version::V3),
        HeaderError::Flags { flags: 4 }
    );
}

#[test]
fn a_page_size_that_sqlite_does_not_have_is_refused() {
    let mut bytes = sound().encode();
    bytes[8..12].copy_from_slice(&1u32.to_be_bytes());
    let expected = Err(HeaderError::PageSize { bytes: 1 });
    assert_eq!(Header::decode(&bytes, Version::V1), expected);
}

#[test]
fn transactions_begin_at_one_and_rise() {
    let txids = |min, max| {
        let (min_txid, max_txid) = (Txid::new(min), Txid::new(max));
        let header = Header {
            min_txid,
            max_txid,
            ..sound()
        };
        let expected = HeaderError::Txids {
            min: min_txid,
            max: max_txid,
        };
        assert_eq!(refused(&header, Version::V1), expected);
    };
    txids(0, 1);
    txids(0, 0);
    txids(5, 0);
    txids(6, 5);
}

#[test]
fn the_fields_of_the_write_ahead_log_go_together() {
    let wal = WalSpan {
        offset_bytes: 32,
        size_bytes: 0,
        salt1: 1,
        salt2: 0,
    };
    let without_size = Header {
        wal: Some(wal),
        ..sound()
    };
    assert_eq!(refused(&without_size, Version::V1), HeaderError::Wal { wal });
    assert_eq!(without_size.check(Version::V3), Ok(()));
    for wal in [
        WalSpan {
            offset_bytes: 0,
            size_bytes: 1,
            salt1: 0,
            salt2: 0,
        },
        WalSpan {
            offset_bytes: 0,
            size_bytes: 0,
            salt1: 0,
            salt2: 1,
        },
        WalSpan {
            offset_bytes: 1 << 63,
            size_bytes: 1,
            salt1: 0,
            salt2: 0,
        },
        WalSpan {
            offset_bytes: 1,
            size_bytes: 1 << 63,
            salt1: 0,
            salt2: 0,
        },
    ] {
        let header = Header {
            wal: Some(wal),
            ..sound()
        };
        assert_eq!(refused(&header, Version::V1), HeaderError::Wal { wal });
        assert_eq!(refused(&header, Version::V3), HeaderError::Wal { wal });
    }
}

#[test]
fn only_a_snapshot_has_no_checksum_before_it() {
    let pre_apply = Checksum::EMPTY_DATABASE;
    let snapshot = Header {
        min_txid: Txid::FIRST,
        ..sound()
    };
    let forbidden = HeaderError::PreApplyForbidden { pre_apply };
    assert_eq!(refused(&snapshot, Version::V1), forbidden);
    for pre_apply in [Checksum::NONE, Checksum::from_bits(7)] {
        let header = Header { pre_apply, ..sound() };
        let missing = HeaderError::PreApplyMissing { pre_apply };
        assert_eq!(refused(&header, Version::V1), missing);
    }
    let unchecked = Header {
        flags: Flags::NO_CHECKSUM,
        ..sound()
    };
    assert_eq!(refused(&unchecked, Version::V3), forbidden);
}
