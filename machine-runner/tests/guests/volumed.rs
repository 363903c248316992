//! A stand-in for volumed: volumes are sparse files; attachments, generations and reports as the real one keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as UrlPath, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use daemon::{ApiError, ApiJson};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// One volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    pub(crate) generation: u64,
    pub(crate) holder: Option<String>,
    pub(crate) formatted: bool,
    pub(crate) fstype: &'static str,
    /// Passphrase of a LUKS volume, and the bytes of its file beyond its size.
    pub(crate) luks: Option<(String, u64)>,
    /// Whether `path` is the socket of an NBD server.
    pub(crate) is_export: bool,
    pub(crate) reports: Vec<Value>,
}

/// The stand-in.
#[derive(Clone, Debug)]
pub(crate) struct Volumed {
    volumes: Arc<Mutex<BTreeMap<String, Volume>>>,
    dir: PathBuf,
    pub(crate) socket: PathBuf,
    stop: CancellationToken,
}

impl Volumed {
    pub(crate) fn start(dir: &Path) -> Self {
        let volumed = Self {
            volumes: Arc::default(),
            dir: dir.to_path_buf(),
            socket: dir.join("v.sock"),
            stop: CancellationToken::new(),
        };
        let router = Router::new()
            .route("/v1/volumes/{id}/attach", post(attach))
            .route("/v1/volumes/{id}/attachment", get(attachment))
            .route("/v1/volumes/{id}/detach", post(detach))
            .route("/v1/volumes/{id}/report", post(report))
            .with_state(volumed.clone());
        let (socket, stop) = (volumed.socket.clone(), volumed.stop.clone());
        daemon::spawn("volumed", async move {
            daemon::unix_http::serve(&socket, router, stop).await.unwrap()
        });
        volumed
    }

    /// Makes a volume of `size_bytes`.
    pub(crate) fn create(&self, id: &str, size_bytes: u64) {
        self.create_in(&self.dir, id, size_bytes);
    }

    /// Makes a volume whose file is in another directory.
    pub(crate) fn create_in(&self, dir: &Path, id: &str, size_bytes: u64) {
        let path = dir.join(id);
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(size_bytes).unwrap();
        self.add(id, path, size_bytes, None);
    }

    /// Takes a block device for a volume.
    pub(crate) fn create_on(&self, device: &Path, id: &str, size_bytes: u64) {
        self.add(id, device.to_owned(), size_bytes, None);
    }

    /// Takes an export of an NBD server, which has the volume's id for a name.
    pub(crate) fn create_at(&self, socket: &Path, id: &str, size_bytes: u64) {
        self.create_on(socket, id, size_bytes);
        self.volumes.lock().unwrap().get_mut(id).unwrap().is_export = true;
    }

    /// Makes a volume that is to have no file system.
    pub(crate) fn create_raw(&self, id: &str, size_bytes: u64) {
        self.create(id, size_bytes);
        self.volumes.lock().unwrap().get_mut(id).unwrap().fstype = "raw";
    }

    /// Makes an encrypted volume whose first and last MiB read zero, as the real volumed does.
    pub(crate) fn create_encrypted(&self, id: &str, size_bytes: u64) {
        let (path, passphrase) = (self.dir.join(id), "correct horse battery".to_owned());
        let secret = format!("secret,id=s,data={passphrase}");
        let run = |program: &str, args: &[&str]| {
            let output = std::process::Command::new(program)
                .args(["--object", &secret])
                .args(args)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let (file, size) = (path.to_str().unwrap(), size_bytes.to_string());
        let format = [
            "create",
            "-q",
            "-f",
            "luks",
            "--object",
            &secret,
            "-o",
            "key-secret=s,iter-time=10",
        ];
        // qemu-img times its key derivation, and on a busy host the clock is too coarse now and then.
        let created = (0..20).any(|_| {
            let status = std::process::Command::new("qemu-img")
                .args(format)
                .args([file, &size])
                .status();
            status.unwrap().success()
        });
        assert!(created, "qemu-img made no encrypted volume");
        let options = format!("driver=luks,file.filename={file},key-secret=s");
        let last = format!("write -z {} 1M", size_bytes - (1 << 20));
        run(
            "qemu-io",
            &["--image-opts", "-c", "write -z 0 1M", "-c", &last, &options],
        );
        let header_bytes = std::fs::metadata(&path).unwrap().len() - size_bytes;
        self.add(id, path, size_bytes, Some((passphrase, header_bytes)));
    }

    fn add(&self, id: &str, path: PathBuf, size_bytes: u64, luks: Option<(String, u64)>) {
        let (holder, reports) = (None, Vec::new());
        let volume = Volume {
            path,
            size_bytes,
            generation: 0,
            holder,
            formatted: false,
            fstype: "ext4",
            luks,
            is_export: false,
            reports,
        };
        self.volumes.lock().unwrap().insert(id.to_owned(), volume);
    }

    pub(crate) fn volume(&self, id: &str) -> Volume {
        self.volumes.lock().unwrap()[id].clone()
    }

    /// Grows the volume, and its file if it is one, as an extend does before it tells the runner.
    pub(crate) fn extend(&self, id: &str, size_bytes: u64) {
        let mut volumes = self.volumes.lock().unwrap();
        let volume = volumes.get_mut(id).unwrap();
        if std::fs::metadata(&volume.path).unwrap().is_file() {
            let header_bytes = volume.luks.as_ref().map_or(0, |(_, bytes)| *bytes);
            let file = std::fs::File::options().write(true).open(&volume.path).unwrap();
            file.set_len(size_bytes + header_bytes).unwrap();
        }
        volume.size_bytes = size_bytes;
    }

    /// Moves the volume on, as a restore or rollback does.
    pub(crate) fn move_on(&self, id: &str) {
        self.volumes.lock().unwrap().get_mut(id).unwrap().generation += 1;
    }

    fn with<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Volume) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut volumes = self.volumes.lock().unwrap();
        work(
            volumes
                .get_mut(id)
                .ok_or_else(|| ApiError::not_found("volume not found"))?,
        )
    }
}

impl Drop for Volumed {
    fn drop(&mut self) {
        // The last handle but the router's own is the test's.
        if Arc::strong_count(&self.volumes) <= 2 {
            self.stop.cancel();
        }
    }
}

type Answer = Result<Json<Value>, ApiError>;

fn described(id: &str, volume: &Volume) -> Value {
    let device = match &volume.luks {
        None if volume.is_export => json!({"path": volume.path, "format": "nbd", "export": id}),
        None => json!({"path": volume.path, "format": "raw"}),
        Some((passphrase, _)) => json!({"path": volume.path, "format": "luks", "passphrase": passphrase}),
    };
    json!({
        "volume": {"id": id, "name": "data", "size_gb": volume.size_bytes >> 30, "encrypted": false, "fstype": volume.fstype},
        "generation": volume.generation,
        "size_bytes": volume.size_bytes,
        "format_allowed": !volume.formatted,
        "device": device,
    })
}

async fn attach(
    State(volumed): State<Volumed>,
    UrlPath(id): UrlPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Answer {
    let machine = body["machine_id"].as_str().unwrap().to_owned();
    volumed.with(&id, |volume| {
        match &volume.holder {
            Some(holder) if *holder != machine => {
                return Err(ApiError::precondition_failed(format!(
                    "volume {id} is attached to machine {holder}"
                )));
            }
            Some(_) => {}
            None => {
                volume.holder = Some(machine);
                volume.generation += 1;
            }
        }
        Ok(Json(described(&id, volume)))
    })
}

async fn attachment(State(volumed): State<Volumed>, UrlPath(id): UrlPath<String>) -> Answer {
    volumed.with(&id, |volume| Ok(Json(described(&id, volume))))
}

async fn detach(
    State(volumed): State<Volumed>,
    UrlPath(id): UrlPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Answer {
    volumed.with(&id, |volume| {
        if volume.holder.as_deref() != body["machine_id"].as_str() || body["generation"] != volume.generation
        {
            return Err(ApiError::conflict("stale generation"));
        }
        volume.holder = None;
        Ok(Json(json!({"id": id})))
    })
}

async fn report(
    State(volumed): State<Volumed>,
    UrlPath(id): UrlPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Answer {
    volumed.with(&id, |volume| {
        if body["generation"] != volume.generation {
            return Err(ApiError::conflict("stale generation"));
        }
        volume.formatted |= body["formatted"] == true;
        volume.reports.push(body);
        Ok(Json(json!({})))
    })
}
