use super::*;

const BODY: &[u8] = b"0123456789";

fn whole() -> Fetched {
    Fetched {
        bytes: Bytes::from_static(BODY),
        etag: ETag::new("\"e\""),
        announced_bytes: Some(10),
        part: None,
        crc32: Some(crc32fast::hash(BODY)),
    }
}

fn part(range: Range<u64>, bytes: &'static [u8]) -> Fetched {
    Fetched {
        bytes: Bytes::from_static(bytes),
        announced_bytes: Some(bytes.len() as u64),
        part: Some(Part {
            range,
            total_bytes: 10,
        }),
        ..whole()
    }
}

fn short(result: Result<Object, WireError>) -> (u64, u64) {
    match result {
        Err(WireError::Damaged(Flaw::Short {
            expected_bytes,
            got_bytes,
        })) => (expected_bytes, got_bytes),
        other => panic!("not short: {other:?}"),
    }
}

#[test]
fn a_complete_body_passes() {
    let object = whole().check(None).unwrap();
    assert_eq!((object.bytes.as_ref(), object.total_bytes), (BODY, 10));
    let object = part(2..5, b"234").check(Some(&(2..5))).unwrap();
    assert_eq!((object.bytes.as_ref(), object.total_bytes), (&b"234"[..], 10));
    let object = part(8..10, b"89").check(Some(&(8..99))).unwrap();
    assert_eq!(object.bytes, "89");
}

#[test]
fn a_body_shorter_than_announced_is_short() {
    assert_eq!(
        short(
            Fetched {
                announced_bytes: Some(12),
                ..whole()
            }
            .check(None)
        ),
        (12, 10)
    );
}

#[test]
fn a_part_that_is_not_the_one_asked_for_is_short() {
    // Re-framed by a proxy: the lengths agree with each other, not with what was asked.
    assert_eq!(short(part(2..4, b"23").check(Some(&(2..5)))), (3, 2));
    // Content-Range says all, the body lacks a byte.
    let lying = Fetched {
        announced_bytes: None,
        ..part(2..5, b"23")
    };
    assert_eq!(short(lying.check(Some(&(2..5)))), (3, 2));
    // Another part of the right length.
    assert_eq!(short(part(3..6, b"345").check(Some(&(2..5)))), (3, 3));
    // Nobody asked for a part.
    assert_eq!(short(part(0..5, b"01234").check(None)), (10, 5));
}

#[test]
fn changed_bytes_are_found_by_the_crc_of_the_whole_object() {
    let changed = Fetched {
        bytes: Bytes::from_static(b"0123456780"),
        ..whole()
    };
    assert!(matches!(
        changed.check(None),
        Err(WireError::Damaged(Flaw::Corrupt { .. }))
    ));
    let changed = part(0..10, b"0123456780").check(Some(&(0..10)));
    assert!(matches!(changed, Err(WireError::Damaged(Flaw::Corrupt { .. }))));
    // A truncation whose framing is consistent.
    let cut = Fetched {
        bytes: Bytes::from_static(b"012"),
        announced_bytes: Some(3),
        ..whole()
    };
    assert!(matches!(
        cut.check(None),
        Err(WireError::Damaged(Flaw::Corrupt { .. }))
    ));
}

#[test]
fn a_store_that_ignores_the_range_is_cut_to_it() {
    assert_eq!(whole().check(Some(&(3..6))).unwrap().bytes, "345");
    assert!(matches!(
        whole().check(Some(&(10..12))),
        Err(WireError::OutOfRange { total_bytes: 10 })
    ));
}

#[test]
fn content_range_is_read_or_refused() {
    assert_eq!(
        Part::parse("bytes 0-9/100"),
        Some(Part {
            range: 0..10,
            total_bytes: 100
        })
    );
    for bad in [
        "bytes */100",
        "bytes 5-4/100",
        "bytes 0-100/100",
        "0-9/100",
        "bytes 0-9/*",
        "",
    ] {
        assert_eq!(Part::parse(bad), None, "{bad}");
    }
}

#[test]
fn answers_are_sorted_by_what_they_mean_for_the_object() {
    assert!(matches!(
        classify(412, "PreconditionFailed", ""),
        WireError::Precondition
    ));
    assert!(matches!(
        classify(409, "ConditionalRequestConflict", ""),
        WireError::Conflict
    ));
    assert!(matches!(classify(404, "NoSuchKey", ""), WireError::NotFound));
    assert!(matches!(classify(404, "NoSuchBucket", ""), WireError::Refused(_)));
    assert!(matches!(
        classify(409, "BucketNotEmpty", ""),
        WireError::Refused(_)
    ));
    assert!(matches!(classify(403, "AccessDenied", ""), WireError::Refused(_)));
    assert!(matches!(
        classify(501, "NotImplemented", ""),
        WireError::Refused(_)
    ));
    for (status, code) in [
        (500, "InternalError"),
        (503, "SlowDown"),
        (429, ""),
        (400, "BadDigest"),
    ] {
        assert!(
            matches!(classify(status, code, ""), WireError::Outage(_)),
            "{status} {code}"
        );
    }
}
