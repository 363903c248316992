//! Whether pools have places of their own: two in one place would each promise its room.

use std::path::{Component, Path, PathBuf};

use super::{CheckError, PoolConfig};

/// Checks that no two pools share a folder, a volume group's free extents or a thin pool, and that none lies in another.
///
/// * `resolve`: returns a path as the system sees it, without symbolic links; [`on_this_host`] outside tests.
pub(super) fn check(pools: &[PoolConfig], resolve: impl Fn(&Path) -> PathBuf) -> Result<(), CheckError> {
    let places: Vec<(&str, Place)> = pools
        .iter()
        .map(|pool| (pool.name.as_str(), Place::of(pool, &resolve)))
        .collect();
    for (index, (second, place)) in places.iter().enumerate() {
        for (first, other) in &places[..index] {
            if let Some(shared) = other.shared(place) {
                return Err(CheckError::Shared {
                    first: (*first).to_owned(),
                    second: (*second).to_owned(),
                    shared,
                });
            }
        }
    }
    Ok(())
}

/// Where the bytes of a pool are.
enum Place {
    Folder(PathBuf),
    Group { vg: String, thin_pool: Option<String> },
}

impl Place {
    fn of(pool: &PoolConfig, resolve: impl Fn(&Path) -> PathBuf) -> Self {
        match &pool.lvm {
            Some(lvm) => Self::Group {
                vg: lvm.vg.clone(),
                thin_pool: lvm.thin_pool.clone(),
            },
            None => Self::Folder(resolve(&pool.path)),
        }
    }

    /// Names what both would use; none when each has its own.
    fn shared(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Folder(one), Self::Folder(two)) if one == two => Some(format!("folder {}", one.display())),
            (Self::Folder(one), Self::Folder(two)) if one.starts_with(two) || two.starts_with(one) => {
                Some(format!(
                    "folders {} and {}, of which one is in the other",
                    one.display(),
                    two.display()
                ))
            }
            (
                Self::Group { vg, thin_pool },
                Self::Group {
                    vg: other_vg,
                    thin_pool: other,
                },
            ) if vg == other_vg && thin_pool == other => Some(match thin_pool {
                Some(thin_pool) => format!("thin pool {vg}/{thin_pool}"),
                None => format!("volume group {vg}"),
            }),
            (Self::Folder(_) | Self::Group { .. }, _) => None,
        }
    }
}

/// Returns `path` without symbolic links, as far as it exists: what does not is appended as it is.
pub(crate) fn on_this_host(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in whole.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            let rest = whole.strip_prefix(existing).unwrap_or(Path::new(""));
            return rest.components().fold(real, |mut path, part| {
                match part {
                    Component::ParentDir => drop(path.pop()),
                    Component::CurDir => {}
                    part => path.push(part),
                }
                path
            });
        }
    }
    whole
}

#[cfg(test)]
mod tests;
