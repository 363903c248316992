use super::*;

#[test]
fn a_volume_is_not_mounted_among_what_the_node_keeps() {
    let root = tempfile::tempdir().unwrap();
    let (data, link) = (root.path().join("node"), root.path().join("link"));
    std::fs::create_dir_all(data.join("s3")).unwrap();
    std::os::unix::fs::symlink(&data, &link).unwrap();
    for within in ["node", "node/new/deeper", "node/s3", "link/s3/new"] {
        let refused = check_outside_node(&root.path().join(within), &data).unwrap_err();
        assert!(
            refused.to_string().contains("outside of the node's own"),
            "{refused}"
        );
    }
    for outside in ["nodes", "other/new"] {
        check_outside_node(&root.path().join(outside), &data).unwrap();
    }
}
