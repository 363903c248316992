//! RAM images: out of QEMU into a file and back, through a Unix socket, so that QEMU needs no right to start
//! programs and every byte passes a checksum.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::argv::RAM_OUT_SOCKET;
use super::{POLL, io};
use crate::vmm::qmp::Qmp;
use crate::vmm::{SavedImage, VmmError};

/// Longest time that writing or reading an image may take; 2 GiB at 10 MB/s with room.
const LIMIT: Duration = Duration::from_secs(300);
const CHUNK_BYTES: usize = 1 << 20;

pub(super) async fn save(qmp: &Qmp, path: &Path) -> Result<SavedImage, VmmError> {
    let socket = Path::new(RAM_OUT_SOCKET);
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove a stale socket")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(io("listen for the RAM image"))?;
    let result = tokio::time::timeout(LIMIT, receive(qmp, &listener, path)).await;
    drop(listener);
    std::fs::remove_file(socket).map_err(io("remove the RAM image's socket"))?;
    result.map_err(|_| VmmError::Timeout {
        what: "writing the memory away",
        limit: LIMIT,
    })?
}

async fn receive(qmp: &Qmp, listener: &UnixListener, path: &Path) -> Result<SavedImage, VmmError> {
    // The default throttles to what a slow network bears.
    qmp.execute("migrate-set-parameters", json!({"max-bandwidth": 1_u64 << 40}))
        .await?;
    qmp.execute("migrate", json!({"uri": format!("unix:{RAM_OUT_SOCKET}")}))
        .await?;
    let (mut stream, _) = listener.accept().await.map_err(io("accept the RAM image"))?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(io("create the RAM image"))?;
    let mut out = tokio::fs::File::from_std(file);
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = 0_u64;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = stream
            .read(&mut buffer)
            .await
            .map_err(io("receive the RAM image"))?;
        if count == 0 {
            break;
        }
        crc.update(&buffer[..count]);
        bytes += count as u64;
        out.write_all(&buffer[..count])
            .await
            .map_err(io("write the RAM image"))?;
    }
    out.flush().await.map_err(io("write the RAM image"))?;
    out.sync_all().await.map_err(io("sync the RAM image"))?;
    loop {
        let state = qmp.execute("query-migrate", json!({})).await?;
        match state["status"].as_str() {
            Some("completed") => break,
            Some(status @ ("failed" | "cancelled")) => {
                let reason = state["error-desc"].as_str().unwrap_or(status).to_owned();
                return Err(VmmError::Job {
                    what: "write the memory away",
                    reason,
                });
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
    Ok(SavedImage {
        bytes,
        crc32: crc.finalize(),
    })
}

/// Sends an image to a QEMU that waits for it, and checks that it was the saved one.
pub(super) async fn feed(socket: &Path, image: &Path, saved: &SavedImage) -> Result<(), VmmError> {
    let sending = async {
        let mut file = tokio::fs::File::open(image)
            .await
            .map_err(io("open the RAM image"))?;
        let mut stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(io("connect for the RAM image")(error)),
            }
        };
        let mut crc = crc32fast::Hasher::new();
        let mut bytes = 0_u64;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut buffer).await.map_err(io("read the RAM image"))?;
            if count == 0 {
                break;
            }
            crc.update(&buffer[..count]);
            bytes += count as u64;
            stream
                .write_all(&buffer[..count])
                .await
                .map_err(io("send the RAM image"))?;
        }
        stream.shutdown().await.map_err(io("send the RAM image"))?;
        let found = SavedImage {
            bytes,
            crc32: crc.finalize(),
        };
        if found == *saved {
            Ok(())
        } else {
            let reason = format!("the image has {found:?}, {saved:?} was saved");
            Err(VmmError::Job {
                what: "read the memory back",
                reason,
            })
        }
    };
    let result = tokio::time::timeout(LIMIT, sending).await;
    result.map_err(|_| VmmError::Timeout {
        what: "reading the memory back",
        limit: LIMIT,
    })?
}
