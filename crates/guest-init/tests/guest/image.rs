//! The assets of `cargo xtask setup`, and a small root file system made on the spot.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const APPLETS: &[&str] = &[
    "sh", "cat", "cp", "cut", "date", "dd", "df", "echo", "false", "grep", "head", "hostname", "httpd", "id",
    "ip", "kill", "ls", "md5sum", "mkdir", "mount", "nc", "nslookup", "ping", "ps", "readlink", "rm", "seq",
    "sleep", "stat", "stty", "sync", "tail", "tee", "touch", "tr", "true", "tty", "wc", "wget", "yes",
    "free", "od", "seq",
];

/// Returns the directory of kernel, initramfs and firmware.
pub(crate) fn assets() -> PathBuf {
    let dir = guest_boot::assets_dir();
    assert!(
        dir.join("manifest.json").exists(),
        "no guest assets in {}: run `cargo xtask setup`",
        dir.display()
    );
    dir
}

/// Returns an EROFS image with busybox in it; made once per run.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for name in ["bin", "etc", "tmp", "data", "srv/web"] {
            std::fs::create_dir_all(tree.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", tree.join("bin/busybox"))
            .expect("busybox is there (package busybox-static)");
        for applet in APPLETS {
            let _ = symlink("busybox", tree.join("bin").join(applet));
        }
        put(
            &tree.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\n",
        );
        put(&tree.join("etc/group"), "root:x:0:\nweb:x:1001:\nlogs:x:44:web\n");
        let image = dir.path().join("root.erofs");
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.args(["--quiet", "--all-root", "-zlz4", "-T0"])
            .arg(&image)
            .arg(&tree);
        assert!(
            mkfs.status()
                .expect("mkfs.erofs starts (package erofs-utils)")
                .success()
        );
        // Into the build directory, in one step: another run may be reading the one before.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let copy = tempfile::NamedTempFile::new_in(kept).unwrap();
        std::fs::copy(&image, copy.path()).unwrap();
        let path = kept.join("guest-root.erofs");
        copy.persist(&path).unwrap();
        path
    })
}

fn put(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}
