//! Checksums that a client sends along: headers before the body, or trailers after it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};

/// S3's names of the algorithms, as in `x-amz-checksum-<name>`.
const NAMES: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];

/// The checksums that a request claims its body has, base64 by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    by_name: BTreeMap<&'static str, String>,
    md5: Option<String>,
    /// Announced for after the body.
    announced: Vec<&'static str>,
}

/// A body that is not the one that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {algorithm} of the body is {found}, was sent as {claimed}")]
pub(crate) struct Mismatch {
    pub(crate) algorithm: &'static str,
    claimed: String,
    found: String,
}

impl Claims {
    /// Reads the headers of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut claims = Self {
            md5: text("content-md5").map(str::to_owned),
            ..Self::default()
        };
        claims.add(headers);
        let trailer = text("x-amz-trailer").unwrap_or_default().to_ascii_lowercase();
        let announced = NAMES.into_iter().filter(|name| {
            let header = format!("x-amz-checksum-{name}");
            trailer.split(',').any(|trailer| trailer.trim() == header)
        });
        claims.announced = announced.collect();
        claims
    }

    /// Adds trailers that came after the body.
    pub(crate) fn add(&mut self, headers: &HeaderMap) {
        for name in NAMES {
            if let Some(value) = headers
                .get(format!("x-amz-checksum-{name}"))
                .and_then(|value| value.to_str().ok())
            {
                self.by_name.insert(name, value.to_owned());
            }
        }
    }

    /// Prepares to compute what is claimed, or announced. The CRC-32 is always at hand, and not computed again.
    pub(crate) fn hashers(&self) -> Hashers {
        let wanted = |name: &'static str| self.by_name.contains_key(name) || self.announced.contains(&name);
        Hashers {
            inner: ChecksumHasher {
                crc32: None,
                crc32c: wanted("crc32c").then(Crc32c::new),
                crc64nvme: wanted("crc64nvme").then(Crc64Nvme::new),
                sha1: wanted("sha1").then(Sha1::new),
                sha256: wanted("sha256").then(Sha256::new),
            },
            md5: self.md5.is_some().then(Md5::new),
        }
    }

    /// Compares the claims with what came, and returns the checksums to keep.
    pub(crate) fn verify(self, hashers: Hashers, crc32: u32) -> Result<BTreeMap<String, String>, Mismatch> {
        let computed = hashers.inner.finalize();
        let mut found = crc32_only(crc32);
        let others = [
            ("crc32c", computed.checksum_crc32c),
            ("crc64nvme", computed.checksum_crc64nvme),
            ("sha1", computed.checksum_sha1),
            ("sha256", computed.checksum_sha256),
        ];
        for (name, value) in others {
            found.extend(value.map(|value| (name.to_owned(), value)));
        }
        for (algorithm, claimed) in self.by_name {
            match found.get(algorithm) {
                Some(found) if *found == claimed => {}
                // A trailer that nobody announced: its algorithm was not computed, and its claim cannot be kept.
                None => {
                    return Err(Mismatch {
                        algorithm,
                        claimed,
                        found: "not announced before the body".to_owned(),
                    });
                }
                Some(found) => {
                    return Err(Mismatch {
                        algorithm,
                        claimed,
                        found: found.clone(),
                    });
                }
            }
        }
        if let (Some(claimed), Some(md5)) = (self.md5, hashers.md5) {
            let found = STANDARD.encode(md5.finalize());
            if found != claimed {
                return Err(Mismatch {
                    algorithm: "md5",
                    claimed,
                    found,
                });
            }
        }
        Ok(found)
    }
}

/// Computes the checksums of a body, chunk by chunk.
pub(crate) struct Hashers {
    inner: ChecksumHasher,
    md5: Option<Md5>,
}

impl Hashers {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }
}

/// The checksums of an object whose CRC-32 is all that is known.
pub(crate) fn crc32_only(crc32: u32) -> BTreeMap<String, String> {
    BTreeMap::from([("crc32".to_owned(), STANDARD.encode(crc32.to_be_bytes()))])
}

#[cfg(test)]
mod tests;
