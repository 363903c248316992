//! A directory with an export's file mounted in it by a process of its own, and loop devices over that.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
};

use super::server::Server;

pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) directory: PathBuf,
    process: Child,
    dir: tempfile::TempDir,
    loops: Vec<String>,
    mounts: Vec<PathBuf>,
}

impl Place {
    pub(crate) fn new(bytes: usize, minimum: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nbd");
        let directory = dir.path().join("file");
        std::fs::create_dir(&directory).unwrap();
        let server = Server::new(&socket, bytes, minimum);
        let mut process = Command::new(std::env::current_exe().unwrap());
        let process = process.args([Path::new(super::super::SERVE), &socket, &directory]);
        let mut process = process.spawn().unwrap();
        let file = directory.join(nbd_file::FILE_NAME);
        while !file.exists() {
            assert_eq!(process.try_wait().unwrap(), None, "the file's process runs");
            std::thread::yield_now();
        }
        Self {
            server,
            directory,
            process,
            dir,
            loops: Vec::new(),
            mounts: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join(nbd_file::FILE_NAME)
    }

    /// Puts a loop device over the file.
    pub(crate) fn attach(&mut self) -> String {
        let file = self.file();
        let args = ["--find", "--show", "--direct-io=on", file.to_str().unwrap()];
        let node = run("losetup", &args).trim().to_owned();
        self.loops.push(node.clone());
        node
    }

    /// Mounts an ext4 of a loop device.
    pub(crate) fn mount(&mut self, node: &str) -> PathBuf {
        let path = self.dir.path().join("ext4");
        std::fs::create_dir_all(&path).unwrap();
        run("mount", &["-t", "ext4", node, path.to_str().unwrap()]);
        self.mounts.push(path.clone());
        path
    }

    pub(crate) fn unmount(&mut self) {
        for path in self.mounts.drain(..) {
            run("umount", &[path.to_str().unwrap()]);
        }
    }

    /// Takes everything down; the file's process ends well by itself.
    pub(crate) fn end(mut self) {
        self.unmount();
        for node in self.loops.drain(..) {
            run("losetup", &["--detach", &node]);
        }
        unmount_once_free(&self.directory);
        assert!(self.process.wait().unwrap().success());
    }
}

/// A loop device lets its file go only a moment after it was detached.
fn unmount_once_free(directory: &Path) {
    loop {
        let out = Command::new("umount").arg(directory).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            return;
        }
        assert!(said.contains("busy"), "{said}");
        std::thread::yield_now();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever a failed test leaves; nothing of it is there after one that went well.
        if std::thread::panicking() {
            // Nobody may be left waiting for a server.
            let _ = Command::new("umount").arg("--lazy").args(&self.mounts).output();
            for node in &self.loops {
                let _ = Command::new("losetup").args(["--detach", node]).output();
            }
            let _ = Command::new("umount").arg("--lazy").arg(&self.directory).output();
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {told}{said}");
    told
}
