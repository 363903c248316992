//! Kernel modules for the initramfs, in an order in which each finds what it needs.

use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Names of order files, each with its modules; what those depend on comes by itself.
pub(super) type Groups = &'static [(&'static str, &'static [&'static str])];

/// Modules per order file of a guest. The first is loaded at every boot, the others when something asks for them.
pub(super) const GROUPS: Groups = &[
    (
        "order",
        &[
            "virtio_mmio",
            "virtio_pci",
            "virtio_console",
            "virtio_blk",
            "crc32c_intel",
            "erofs",
            "overlay",
            "virtio_net",
            "virtio_rng",
            "fuse",
        ],
    ),
    ("order.xfs", &["xfs"]),
    ("order.dm", &["dm_mod", "dm_thin_pool", "dm_snapshot", "dm_crypt"]),
    ("order.vsock", &["vmw_vsock_virtio_transport"]),
];

/// Modules and the orders to load them in.
pub(super) struct Modules {
    /// File name and content of each, sorted.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Name of each order file and the file names in it.
    pub(super) orders: Vec<(&'static str, Vec<String>)>,
}

/// Reads the modules of `groups` with all they depend on from an unpacked kernel package.
pub(super) fn load(tree: &Path, release: &str, groups: Groups) -> Result<Modules> {
    let dir = tree.join("lib/modules").join(release);
    let mut paths = BTreeMap::new();
    find(&dir.join("kernel"), &mut paths)?;
    let builtin = fs::read_to_string(dir.join("modules.builtin")).context("read modules.builtin")?;
    let builtin: BTreeSet<String> = builtin
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .map(name_of)
        .collect();
    let mut loader = Loader {
        paths,
        builtin,
        files: BTreeMap::new(),
        ordered: Vec::new(),
    };
    let mut orders = Vec::new();
    for (group, names) in groups {
        let before = loader.ordered.len();
        for name in *names {
            loader.add(name)?;
        }
        orders.push((*group, loader.ordered[before..].to_vec()));
    }
    Ok(Modules {
        files: loader.files,
        orders,
    })
}

struct Loader {
    paths: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    files: BTreeMap<String, Vec<u8>>,
    ordered: Vec<String>,
}

impl Loader {
    /// Adds a module behind what it depends on.
    fn add(&mut self, name: &str) -> Result<()> {
        let file = format!("{name}.ko");
        if self.builtin.contains(name) || self.files.contains_key(&file) {
            return Ok(());
        }
        let path = self
            .paths
            .get(name)
            .with_context(|| format!("the kernel package has no module {name}"))?;
        let elf = read(path)?;
        ensure!(elf.starts_with(b"\x7fELF"), "{} is no ELF file", path.display());
        let depends = modinfo(&elf, "depends");
        // Reserved before its dependencies are looked at: a cycle must not recurse for ever.
        self.files.insert(file.clone(), elf);
        for dependency in depends
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty())
        {
            self.add(&dependency.replace('-', "_"))
                .with_context(|| format!("module {name} needs {dependency}"))?;
        }
        self.ordered.push(file);
        Ok(())
    }
}

/// Collects the paths of all modules below `dir`, by name.
fn find(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), found)?;
        } else {
            found.insert(name_of(&entry.file_name().to_string_lossy()), entry.path());
        }
    }
    Ok(())
}

/// `virtio-rng.ko.xz` is the module `virtio_rng`.
fn name_of(file: &str) -> String {
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
    stem.replace('-', "_")
}

/// Reads a module, decompressed: guest-init hands it to the kernel as it is.
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut out = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => return super::kernel::unxz(&bytes),
        Some("zst") => zstd::Decoder::new(&bytes[..])?.read_to_end(&mut out)?,
        _ => return Ok(bytes),
    };
    Ok(out)
}

/// Returns the value of a `key=value` string of the module's `.modinfo` section.
fn modinfo(elf: &[u8], key: &str) -> Option<String> {
    let needle = format!("\0{key}=").into_bytes();
    let at = elf.windows(needle.len()).position(|window| window == needle)? + needle.len();
    let end = elf[at..].iter().position(|byte| *byte == 0)?;
    String::from_utf8(elf[at..at + end].to_vec()).ok()
}

#[cfg(test)]
mod tests;
