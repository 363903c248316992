use super::*;

fn entry(path: &str, kind: TarKind) -> TarEntry {
    TarEntry {
        path: path.into(),
        mode: 0o755,
        uid: 1,
        gid: 2,
        mtime: FileTime::default(),
        xattrs: BTreeMap::new(),
        kind,
    }
}

fn file(path: &str) -> TarEntry {
    entry(path, TarKind::File(Extents::default()))
}

fn directory(path: &str) -> TarEntry {
    entry(path, TarKind::Directory)
}

fn symlink(path: &str, target: &str) -> TarEntry {
    entry(path, TarKind::Symlink(target.into()))
}

fn hard_link(path: &str, target: &str) -> TarEntry {
    entry(path, TarKind::HardLink(target.into()))
}

/// Merges layers and lists the paths, each with the layer its file came from.
fn merged(layers: Vec<Vec<TarEntry>>) -> Result<Vec<String>, MergeError> {
    let mut merger = Merger::new(1000);
    for layer in layers {
        merger.add_layer(layer)?;
    }
    let (tree, contents) = merger.finish();
    let mut paths = Vec::new();
    let mut pending = vec![(String::new(), InodeId::ROOT)];
    while let Some((path, id)) = pending.pop() {
        match &tree.get(id).kind {
            Kind::Directory(children) => {
                for (name, child) in children {
                    pending.push((format!("{path}/{}", lossy(name)), *child));
                }
                paths.push(format!("{path}/"));
            }
            Kind::File { .. } => paths.push(format!("{path} from {}", contents[&id].layer)),
            Kind::Symlink(target) => paths.push(format!("{path} -> {}", lossy(target))),
            other => paths.push(format!("{path} {other:?}")),
        }
    }
    paths.sort();
    Ok(paths)
}

fn check(layers: Vec<Vec<TarEntry>>, expected: &[&str]) {
    assert_eq!(merged(layers).unwrap(), expected);
}

#[test]
fn a_whiteout_hides_only_what_lower_layers_brought() {
    let lower = vec![file("a/x"), file("a/y"), directory("a/d"), file("a/d/z")];
    let upper = vec![
        file("a/x"),
        file("a/.wh.x"),
        file("a/.wh.d"),
        file("a/.wh.absent"),
        file("gone/.wh.q"),
    ];
    check(vec![lower, upper], &["/", "/a/", "/a/x from 1", "/a/y from 0"]);
}

#[test]
fn an_opaque_directory_hides_all_lower_children_wherever_its_marker_stands() {
    let lower = || vec![file("a/x"), file("a/b/y")];
    let expected = ["/", "/a/", "/a/new from 1"];
    check(
        vec![lower(), vec![file("a/.wh..wh..opq"), file("a/new")]],
        &expected,
    );
    check(
        vec![lower(), vec![file("a/new"), file("a/.wh..wh..opq")]],
        &expected,
    );
}

#[test]
fn aufs_bookkeeping_is_left_out() {
    check(
        vec![vec![file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("a")]],
        &["/", "/a from 0"],
    );
}

#[test]
fn a_directory_over_a_directory_keeps_its_children_and_takes_the_new_mode() {
    let mut top = directory("./a/");
    top.mode = 0o700;
    let mut merger = Merger::new(100);
    merger.add_layer(vec![directory("a"), file("a/x")]).unwrap();
    merger.add_layer(vec![top]).unwrap();
    let (tree, _) = merger.finish();
    let a = tree.child(InodeId::ROOT, b"a").unwrap();
    assert_eq!((tree.get(a).mode, tree.child(a, b"x").is_some()), (0o700, true));
}

#[test]
fn anything_else_replaces_what_was_there() {
    check(vec![vec![file("a/x")], vec![file("a")]], &["/", "/a from 1"]);
    check(vec![vec![file("a")], vec![directory("a")]], &["/", "/a/"]);
    check(
        vec![vec![symlink("a", "/etc"), directory("etc")], vec![file("a")]],
        &["/", "/a from 1", "/etc/"],
    );
    check(
        vec![vec![symlink("a", "/etc"), directory("etc")], vec![directory("a")]],
        &["/", "/a/", "/etc/"],
    );
    check(
        vec![vec![file("a"), file("a"), directory("a"), file("a/b")]],
        &["/", "/a/", "/a/b from 0"],
    );
}

#[test]
fn parents_are_resolved_through_links_and_never_leave_the_root() {
    let usr_merged = vec![
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("l2", "/lib"),
    ];
    check(
        vec![
            usr_merged,
            vec![file("lib/x"), file("l2/y"), file("lib/.wh.absent")],
        ],
        &[
            "/",
            "/l2 -> /lib",
            "/lib -> usr/lib",
            "/usr/",
            "/usr/lib/",
            "/usr/lib/x from 1",
            "/usr/lib/y from 1",
        ],
    );
    let out = vec![
        symlink("out", "../../../../etc"),
        file("out/passwd"),
        file("/abs//./x"),
    ];
    check(
        vec![out],
        &[
            "/",
            "/abs/",
            "/abs/x from 0",
            "/etc/",
            "/etc/passwd from 0",
            "/out -> ../../../../etc",
        ],
    );
}

#[test]
fn hard_links_reach_lower_hidden_and_later_files() {
    let mut merger = Merger::new(100);
    merger
        .add_layer(vec![hard_link("early", "a/x"), file("a/x"), file("b")])
        .unwrap();
    merger
        .add_layer(vec![
            file(".wh.b"),
            hard_link("kept", "b"),
            hard_link("again", "/kept"),
        ])
        .unwrap();
    let (tree, _) = merger.finish();
    let at = |name: &[u8]| tree.child(InodeId::ROOT, name);
    assert_eq!(at(b"early"), tree.child(at(b"a").unwrap(), b"x"));
    assert_eq!(at(b"b"), None);
    assert!(at(b"kept").is_some());
    assert_eq!(at(b"kept"), at(b"again"));
}

#[test]
fn replacing_one_name_leaves_the_other_names_of_a_file_alone() {
    check(
        vec![vec![file("a"), hard_link("b", "a")], vec![file("a")]],
        &["/", "/a from 1", "/b from 0"],
    );
}

#[test]
fn entries_that_make_no_sense_are_refused_by_name() {
    let refused = |entries: Vec<TarEntry>| merged(vec![entries]).unwrap_err().to_string();
    assert_eq!(
        refused(vec![file("a/../../etc/passwd")]),
        "entry \"a/../../etc/passwd\" leads out of the image"
    );
    assert_eq!(
        refused(vec![hard_link("a", "../b")]),
        "entry \"../b\" leads out of the image"
    );
    assert_eq!(
        refused(vec![file("d/.wh...")]),
        "entry \"d/.wh...\" leads out of the image"
    );
    assert_eq!(
        refused(vec![file("a"), file("a/b")]),
        "entry \"a/b\" lies below something that is not a directory"
    );
    assert_eq!(
        refused(vec![symlink("l", "l"), file("l/x")]),
        "entry \"l/x\" lies behind more than 40 symbolic links"
    );
    assert_eq!(
        refused(vec![hard_link("a", "b")]),
        "hard link \"a\" leads to \"b\", which is not a file of the image"
    );
    assert_eq!(
        refused(vec![directory("d"), hard_link("a", "d")]),
        "hard link \"a\" leads to \"d\", which is not a file of the image"
    );
    assert!(refused(vec![file(&"n".repeat(256))]).ends_with("or is longer than 4096 bytes"));
    assert!(refused(vec![file(&"n/".repeat(3000))]).ends_with("or is longer than 4096 bytes"));
    assert_eq!(
        refused(vec![file("/")]),
        "entry \"/\" lies below something that is not a directory"
    );
}

#[test]
fn implied_directories_count_against_the_limit() {
    let deep = (0..10)
        .map(|i| file(&format!("{i}{}", "/d".repeat(200))))
        .collect();
    assert_eq!(
        merged(vec![deep]).unwrap_err(),
        MergeError::TooMany { inodes_max: 1000 }
    );
}

#[test]
fn attributes_that_mean_something_to_the_overlay_above_are_dropped() {
    let mut opaque = directory("d");
    opaque.xattrs = [&b"trusted.overlay.opaque"[..], b"user.kept", b"com.apple.x"]
        .into_iter()
        .map(|name| (name.to_vec(), b"y".to_vec()))
        .collect();
    let mut merger = Merger::new(100);
    merger.add_layer(vec![opaque]).unwrap();
    assert_eq!(merger.xattrs_dropped, 2);
    let (tree, _) = merger.finish();
    let d = tree.child(InodeId::ROOT, b"d").unwrap();
    assert_eq!(tree.get(d).xattrs.keys().collect::<Vec<_>>(), [b"user.kept"]);
}
