use http::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                value.parse::<HeaderValue>().unwrap(),
            )
        })
        .collect()
}

fn check(
    before: &[(&'static str, &str)],
    after: &[(&'static str, &str)],
) -> Result<BTreeMap<String, String>, Mismatch> {
    let mut claims = Claims::of(&headers(before));
    let mut hashers = claims.hashers();
    hashers.update(b"123456");
    hashers.update(b"789");
    claims.add(&headers(after));
    claims.verify(hashers, crc32fast::hash(b"123456789"))
}

// The check values of "123456789": those of the CRC catalogue (crc32 cbf43926, crc32c e3069283, crc64nvme
// ae8b14860a799888), and what Python's hashlib says.
const CRC32: &str = "y/Q5Jg==";
const CRC32C: &str = "4waSgw==";
const CRC64NVME: &str = "rosUhgp5mIg=";
const SHA1: &str = "98O8HYCOBHMq32eZZczDTKeuNEE=";
const SHA256: &str = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
const MD5: &str = "JfnnlDI7RTiF9RgfG2JNCw==";

#[test]
fn every_algorithm_is_checked_as_header_and_as_trailer() {
    let all = [
        ("x-amz-checksum-crc32", CRC32),
        ("x-amz-checksum-crc32c", CRC32C),
        ("x-amz-checksum-crc64nvme", CRC64NVME),
        ("x-amz-checksum-sha1", SHA1),
        ("x-amz-checksum-sha256", SHA256),
    ];
    for (name, value) in all {
        let kept = check(&[(name, value)], &[]).unwrap();
        let short = name.trim_start_matches("x-amz-checksum-");
        assert_eq!(kept[short], value);
        assert_eq!(
            check(&[("x-amz-trailer", name)], &[(name, value)]).unwrap()[short],
            value
        );
        let wrong = value.replacen(&value[..1], "+", 1);
        assert_eq!(check(&[(name, &wrong)], &[]).unwrap_err().algorithm, short);
        assert_eq!(
            check(&[("x-amz-trailer", name)], &[(name, &wrong)])
                .unwrap_err()
                .algorithm,
            short
        );
    }
}

#[test]
fn content_md5_is_checked_and_the_crc32_is_always_kept() {
    assert_eq!(check(&[("content-md5", MD5)], &[]).unwrap()["crc32"], CRC32);
    assert_eq!(
        check(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], &[])
            .unwrap_err()
            .algorithm,
        "md5"
    );
    assert_eq!(check(&[], &[]).unwrap()["crc32"], CRC32);
}

#[test]
fn a_trailer_that_was_not_announced_is_refused_rather_than_believed() {
    assert_eq!(
        check(&[], &[("x-amz-checksum-sha1", SHA1)])
            .unwrap_err()
            .algorithm,
        "sha1"
    );
}
