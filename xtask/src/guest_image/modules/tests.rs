use super::*;

fn module(name: &str, depends: &str) -> (String, Vec<u8>) {
    (
        name.to_owned(),
        format!("\x7fELF code\0license=GPL\0depends={depends}\0name={name}\0").into_bytes(),
    )
}

fn loader(dir: &Path, modules: &[(String, Vec<u8>)]) -> Loader {
    let mut paths = BTreeMap::new();
    for (name, bytes) in modules {
        let path = dir.join(format!("{name}.ko"));
        std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), bytes).unwrap();
        paths.insert(name.clone(), path);
    }
    let builtin = BTreeSet::from(["crc32c_generic".to_owned()]);
    Loader {
        paths,
        builtin,
        files: BTreeMap::new(),
        ordered: Vec::new(),
    }
}

#[test]
fn a_module_comes_after_what_it_needs_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let modules = [
        module("virtio_blk", "virtio,virtio-ring"),
        module("virtio_net", "virtio_ring,virtio"),
        module("virtio", "crc32c_generic"),
        module("virtio_ring", ""),
    ];
    let mut loader = loader(dir.path(), &modules);
    loader.add("virtio_blk").unwrap();
    loader.add("virtio_net").unwrap();
    assert_eq!(
        loader.ordered,
        ["virtio.ko", "virtio_ring.ko", "virtio_blk.ko", "virtio_net.ko"]
    );
}

#[test]
fn a_missing_dependency_is_named_with_who_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = loader(dir.path(), &[module("erofs", "lz4")])
        .add("erofs")
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("module erofs needs lz4"),
        "{error:#}"
    );
}

#[test]
fn names_are_those_of_the_kernel() {
    assert_eq!(name_of("dm-thin-pool.ko.xz"), "dm_thin_pool");
    assert_eq!(name_of("xfs.ko"), "xfs");
}
