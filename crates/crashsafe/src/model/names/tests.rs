use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

const FILE: Inode = Inode(7);
const DIRECTORY: Inode = Inode(1);

fn place(name: &str) -> Place {
    (DIRECTORY, name.into())
}

fn change(inode: Inode, from: Option<&str>, to: Option<&str>) -> Change {
    Change {
        inode,
        is_dir: false,
        from: from.map(place),
        to: to.map(place),
    }
}

/// The names that some power cut leaves, as one sorted line each.
fn outcomes(namespace: &Namespace) -> std::collections::BTreeSet<String> {
    (0..300)
        .map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let names = namespace.crash(&Luck::draw(&mut rng), &mut rng);
            let line: Vec<String> = names
                .iter()
                .map(|((_, name), inode)| format!("{}={}", name.display(), inode.0))
                .collect();
            line.join(" ")
        })
        .collect()
}

fn check(namespace: &Namespace, expected: &[&str]) {
    assert_eq!(
        outcomes(namespace),
        expected.iter().map(ToString::to_string).collect()
    );
}

#[test]
fn a_new_name_may_be_gone_until_its_directory_is_synced() {
    let mut namespace = Namespace::default();
    namespace.change(change(FILE, None, Some("a")));
    check(&namespace, &["", "a=7"]);
    namespace.sync(Inode(2));
    check(&namespace, &["", "a=7"]);
    namespace.sync(DIRECTORY);
    check(&namespace, &["a=7"]);
}

#[test]
fn a_file_renamed_twice_has_exactly_one_name() {
    let mut namespace = Namespace::durable([(place("a"), FILE)].into());
    namespace.change(change(FILE, Some("a"), Some("b")));
    namespace.change(change(FILE, Some("b"), Some("c")));
    check(&namespace, &["a=7", "b=7", "c=7"]);
}

#[test]
fn a_rename_over_a_file_leaves_the_old_one_or_the_new_one() {
    let mut namespace = Namespace::durable([(place("a"), FILE)].into());
    namespace.change(change(Inode(8), None, Some("t")));
    namespace.change(change(Inode(8), Some("t"), Some("a")));
    check(&namespace, &["a=7", "a=7 t=8", "a=8"]);
}

#[test]
fn changes_of_different_names_survive_out_of_order() {
    let mut namespace = Namespace::default();
    namespace.change(change(FILE, None, Some("a")));
    namespace.change(change(Inode(8), None, Some("b")));
    check(&namespace, &["", "a=7", "b=8", "a=7 b=8"]);
}

#[test]
fn a_sync_of_one_directory_leaves_the_changes_of_another_to_luck() {
    let mut namespace = Namespace::default();
    namespace.change(change(FILE, None, Some("a")));
    namespace.change(Change {
        inode: Inode(8),
        is_dir: false,
        from: None,
        to: Some((Inode(2), "b".into())),
    });
    namespace.sync(Inode(2));
    check(&namespace, &["b=8", "a=7 b=8"]);
}

#[test]
fn a_sync_takes_along_what_its_changes_stand_on() {
    let mut namespace = Namespace::default();
    namespace.change(change(FILE, None, Some("a")));
    let to = Some((Inode(2), "b".into()));
    namespace.change(Change {
        inode: FILE,
        is_dir: false,
        from: Some(place("a")),
        to,
    });
    namespace.sync(Inode(2));
    check(&namespace, &["b=7"]);
}

#[test]
fn a_directory_is_never_removed_before_what_was_moved_out_of_it() {
    let directory = (Inode(0), OsString::from("d"));
    let mut namespace = Namespace::durable([(directory.clone(), DIRECTORY), (place("a"), FILE)].into());
    let to = Some((Inode(0), "kept".into()));
    namespace.change(Change {
        inode: FILE,
        is_dir: false,
        from: Some(place("a")),
        to,
    });
    namespace.change(Change {
        inode: DIRECTORY,
        is_dir: true,
        from: Some(directory),
        to: None,
    });
    check(&namespace, &["d=1 a=7", "d=1 kept=7", "kept=7"]);
}
