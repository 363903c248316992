//! Maps of sparse files, in the three forms that GNU tar writes. Pure.

use tar::GnuSparseHeader;

use super::{BLOCK_BYTES, Extents, Run};

/// The used (offset, length) pairs of a map block.
pub(super) fn pairs(headers: &[GnuSparseHeader]) -> Option<Vec<(u64, u64)>> {
    let used = headers.iter().filter(|header| !header.is_empty());
    used.map(|header| Some((header.offset().ok()?, header.length().ok()?)))
        .collect()
}

/// `offset,length,offset,length…`, as in PAX version 0.1.
pub(super) fn parse_list(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> = std::str::from_utf8(text)
        .ok()?
        .split(',')
        .map(|number| number.parse().ok())
        .collect();
    Some(numbers?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The count and the pairs, a line each, at the head of the data, as in PAX version 1.0; and the bytes they take.
pub(super) fn parse_head(head: &[u8]) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut used = 0;
    let mut line = || -> Option<u64> {
        let rest = &head[used..];
        let len = rest.iter().take(21).position(|byte| *byte == b'\n')?;
        used += len + 1;
        std::str::from_utf8(&rest[..len]).ok()?.parse().ok()
    };
    let count = line()?;
    let mut map = Vec::new();
    for _ in 0..count {
        map.push((line()?, line()?));
    }
    Some((map, (used as u64).next_multiple_of(BLOCK_BYTES)))
}

/// Joins a map with the stored bytes, one after another from `data` on; `None` when they contradict each other.
pub(super) fn extents(map: &[(u64, u64)], size_bytes: u64, data: u64, data_bytes: u64) -> Option<Extents> {
    let mut runs = Vec::new();
    let (mut file_end, mut used) = (0, 0_u64);
    for (at, len) in map.iter().copied() {
        let end = at.checked_add(len)?;
        if at < file_end || end > size_bytes {
            return None;
        }
        if len > 0 {
            runs.push(Run {
                at,
                source: data.checked_add(used)?,
                len,
            });
        }
        file_end = end;
        used = used.checked_add(len)?;
    }
    (used <= data_bytes).then_some(Extents { size_bytes, runs })
}
