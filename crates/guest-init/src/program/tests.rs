use std::fs::File;

use super::*;

fn image() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [
        ("bin/run", 0o755),
        ("bin/data", 0o644),
        ("first/data", 0o644),
        ("app/run", 0o700),
    ] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path)
            .unwrap()
            .set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
    }
    dir
}

fn check(name: &str, expected: Result<&str, i32>) {
    let image = image();
    let search = format!("{0}/first:{0}/bin", image.path().display());
    let found = find(name, &search, &image.path().join("app"));
    let expected = expected.map(|path| image.path().join(path));
    assert_eq!(found.map_err(|error| error.code()), expected, "{name:?}");
}

#[test]
fn a_name_is_searched_for_and_a_path_is_not() {
    check("run", Ok("bin/run"));
    check("./run", Ok("app/./run"));
    check("../bin/run", Ok("app/../bin/run"));
}

#[test]
fn failures_have_the_codes_of_a_shell() {
    check("data", Err(126));
    check("./nothing", Err(127));
    check("nothing", Err(127));
    check("../bin", Err(126));
    check("", Err(125));
}
