//! An OCI layout with one program: the host's static busybox.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const APPLETS: [&str; 33] = [
    "sh",
    "ls",
    "cat",
    "echo",
    "sleep",
    "df",
    "nc",
    "httpd",
    "wget",
    "sha256sum",
    "dd",
    "sync",
    "kill",
    "ps",
    "true",
    "false",
    "head",
    "tail",
    "wc",
    "grep",
    "seq",
    "touch",
    "rm",
    "mkdir",
    "nslookup",
    "tr",
    "env",
    "id",
    "hostname",
    "date",
    "yes",
    "fstrim",
    "dmesg",
];

fn busybox() -> PathBuf {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    found.expect("busybox is missing: apt-get install busybox-static")
}

fn layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    for dir in [
        "bin", "etc", "tmp", "dev", "proc", "sys", "run", "data", "root", "www",
    ] {
        layer
            .append_data(
                &mut header(tar::EntryType::Directory, 0o755, 0),
                dir,
                std::io::empty(),
            )
            .unwrap();
    }
    let program = std::fs::read(busybox()).unwrap();
    let mut file = header(tar::EntryType::Regular, 0o755, program.len() as u64);
    layer
        .append_data(&mut file, "bin/busybox", program.as_slice())
        .unwrap();
    for applet in APPLETS {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        layer
            .append_link(&mut link, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("www/index.html", "hello from the machine\n"),
    ] {
        let mut file = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        layer.append_data(&mut file, path, text.as_bytes()).unwrap();
    }
    layer.into_inner().unwrap()
}

fn blob(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = hex::encode(Sha256::digest(bytes));
    put(&dir.join("blobs/sha256").join(&digest), bytes);
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

#[allow(clippy::disallowed_methods)] // a test's input is not durable
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Makes the layout in `dir`.
pub(crate) fn make(dir: &Path) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let layer = blob(dir, "application/vnd.oci.image.layer.v1.tar", &layer());
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "infinity"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(
        dir,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let manifest = blob(dir, media_type, manifest.to_string().as_bytes());
    put(
        &dir.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]})
            .to_string()
            .as_bytes(),
    );
    put(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
}
