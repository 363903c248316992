//! Against the field's own tools: umoci and skopeo write layouts, Debian's docker-registry serves them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::StatusCode;

use super::fixtures::*;
use crate::images::*;

fn tool(name: &str) -> Command {
    let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name));
    let path = found.into_iter().find(|path| path.exists());
    Command::new(
        path.unwrap_or_else(|| panic!("{name} is missing: apt-get install umoci skopeo docker-registry")),
    )
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Debian's registry on a loopback port of its own.
struct RunningRegistry {
    child: Child,
    host: String,
    storage: PathBuf,
}

impl RunningRegistry {
    fn start(dir: &Path) -> Self {
        let storage = dir.join("registry");
        // The port is free now; whoever takes it in between makes the registry fail, and the test with it.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = format!("127.0.0.1:{port}");
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            storage.display()
        );
        put(&config, text.as_bytes());
        let mut child = tool("docker-registry")
            .arg("serve")
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on")));
        assert!(ready.is_some(), "docker-registry did not start");
        // Its log must be read on, or it stops when the pipe is full.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, host, storage }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.storage
            .join("docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An image made by umoci: a layout at `dir/made`, tag `v1`.
fn made_by_umoci(dir: &Path) -> PathBuf {
    let layout = dir.join("made");
    let image = format!("{}:v1", layout.display());
    for (index, layer) in [
        Layer::new()
            .dir("srv")
            .file("srv/first", b"1")
            .file("srv/gone", b"x")
            .tar(),
        Layer::new()
            .file("srv/second", &vec![2; 200_000])
            .file("srv/.wh.gone", b"")
            .tar(),
    ]
    .iter()
    .enumerate()
    {
        if index == 0 {
            run(tool("umoci").arg("init").arg("--layout").arg(&layout));
            run(tool("umoci").arg("new").arg("--image").arg(&image));
        }
        let tar = dir.join(format!("layer-{index}.tar"));
        put(&tar, layer);
        run(tool("umoci")
            .args(["raw", "add-layer", "--image", &image])
            .arg(&tar));
    }
    run(tool("umoci").args([
        "config",
        "--image",
        &image,
        "--config.cmd",
        "/srv/first",
        "--architecture",
        "amd64",
    ]));
    layout
}

fn assert_made_by_umoci(image: &Image) {
    let seen = listing(image);
    assert_eq!(paths(&seen), ["", "/srv", "/srv/first", "/srv/second"]);
    assert_eq!(content(&seen, "/srv/second"), vec![2; 200_000]);
    assert_eq!(image.config.cmd, ["/srv/first"]);
}

#[tokio::test]
async fn what_umoci_and_skopeo_write_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let layout = made_by_umoci(dir.path());
    let store = store(dir.path());
    let image = import(&store, &layout).await.unwrap();
    assert_made_by_umoci(&image);
    assert_eq!(image.names, ["docker.io/library/made:v1"]);

    let from = format!("oci:{}:v1", layout.display());
    let mut digests = Vec::new();
    for (kind, file) in [("oci-archive", "one.tar"), ("docker-archive", "two.tar")] {
        let to = format!("{kind}:{}:copied:v2", dir.path().join(file).display());
        run(tool("skopeo").args(["copy", "--quiet", &from, &to]));
        let image = import(&store, &dir.path().join(file)).await.unwrap();
        assert_made_by_umoci(&image);
        assert_eq!(
            store.resolve("copied:v2").unwrap().unwrap().digest,
            image.digest,
            "{kind}"
        );
        digests.push(image.digest);
    }
    assert_eq!(digests[0], image.digest, "skopeo leaves a manifest as it is");
}

#[tokio::test]
async fn a_real_registry_serves_by_tag_and_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let layout = made_by_umoci(dir.path());
    let registry = RunningRegistry::start(dir.path());
    let name = format!("{}/team/demo:v1", registry.host);
    let from = format!("oci:{}:v1", layout.display());
    let push = [
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &from,
        &format!("docker://{name}"),
    ];
    run(tool("skopeo").args(push));

    let store = store(dir.path());
    let (progress, events) = recorder();
    let image = store.ensure(&name, progress).await.unwrap();
    assert_made_by_umoci(&image);
    assert_eq!(image.names, [name.as_str()]);
    let from_layout = import(&store, &layout).await.unwrap();
    assert_eq!(
        from_layout.digest, image.digest,
        "the same image wherever it comes from"
    );
    let downloaded = |event: &ProgressEvent| matches!(event, ProgressEvent::Download { layer: 2, layers: 2, bytes, total_bytes } if bytes == total_bytes);
    assert!(events.lock().unwrap().iter().any(downloaded));
    assert_clean(dir.path());

    store.remove(&image.digest.to_string(), &|_| false).unwrap();
    let by_digest = format!("{}/team/demo@{}", registry.host, image.digest);
    let pulled = store.ensure(&by_digest, quiet()).await.unwrap();
    assert_eq!(
        (pulled.digest, pulled.size_bytes),
        (image.digest, image.size_bytes)
    );
    assert!(pulled.names.is_empty(), "a digest names no tag");
    drop(registry);
    assert_eq!(
        store.ensure(&by_digest, quiet()).await.unwrap().digest,
        image.digest,
        "the store answers first"
    );
    let error = store.pull(&name, quiet()).await.unwrap_err();
    assert!(
        matches!(error, ImportError::Registry { .. }) && error.is_transient(),
        "{error}"
    );
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn what_a_registry_lacks_or_lost_is_reported_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let layout = made_by_umoci(dir.path());
    let registry = RunningRegistry::start(dir.path());
    let name = format!("{}/demo:v1", registry.host);
    let from = format!("oci:{}:v1", layout.display());
    let push = [
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &from,
        &format!("docker://{name}"),
    ];
    run(tool("skopeo").args(push));
    let store = store(dir.path());
    for absent in [
        format!("{}/demo:v2", registry.host),
        format!("{}/nothing", registry.host),
    ] {
        let error = store.pull(&absent, quiet()).await.unwrap_err();
        assert!(matches!(error, ImportError::NotFound { .. }), "{error:?}");
        assert_eq!(error.status(), StatusCode::NOT_FOUND);
    }
    let manifest = run(tool("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}"),
    ]));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap();
    let blob = registry.blob(layer);
    let mut bytes = std::fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last / 2] ^= 1;
    put(&blob, &bytes);
    let error = store.pull(&name, quiet()).await.unwrap_err();
    let expected = format!(
        "{layer} is corrupt: its bytes have the digest {}",
        Digest::of(&bytes)
    );
    assert_eq!(error.to_string(), expected);
    assert!(store.list().is_empty());
    assert_clean(dir.path());

    std::fs::remove_file(&blob).unwrap();
    let error = store.pull(&name, quiet()).await.unwrap_err();
    assert!(matches!(error, ImportError::NotFound { .. }), "{error:?}");
}
