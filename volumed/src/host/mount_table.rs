//! PURE. Reading `/proc/self/mountinfo`.

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub(super) point: Vec<u8>,
    /// What: a device node for file systems on one.
    pub(super) source: Vec<u8>,
}

/// Returns what is mounted on `point`: of several mounts on top of each other the one that is seen.
pub(super) fn at(table: &[u8], point: &[u8]) -> Option<Mount> {
    mounts(table).filter(|mount| mount.point == point).last()
}

fn mounts(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = unescaped(fields.nth(4)?);
        // Optional fields end with a dash; then come type and source.
        fields.find(|field| *field == b"-")?;
        let source = unescaped(fields.nth(1)?);
        Some(Mount { point, source })
    })
}

/// Puts back what stands as `\040` and the like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3).and_then(octal)).flatten();
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests;
