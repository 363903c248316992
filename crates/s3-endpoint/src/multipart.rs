//! Multipart uploads: a directory each, with a file per part, until they are completed into an object.
//!
//! `uploads/<id>/upload` says for which object; `uploads/<id>/part.00001` is an object file of its own. Parts are durable
//! when they are acknowledged, so an upload goes on after a restart.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crashsafe::{OpenOptions, create_dir_durable, write_atomic};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::bucket::{Bucket, BucketError, Condition, Temporary, doing};
use crate::object_file::{Digest, ObjectReader, Record};

/// Least size of a part that is not the last, as on S3.
const PART_BYTES_MIN: u64 = 5 << 20;
/// Highest part number, as on S3.
pub(crate) const PARTS_MAX: u32 = 10_000;
const COPY_BYTES: u64 = 1 << 20;

/// What an upload will become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) initiated: jiff::Timestamp,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadedPart {
    pub(crate) number: u32,
    pub(crate) etag: String,
    pub(crate) size_bytes: u64,
    pub(crate) modified: jiff::Timestamp,
}

impl Bucket {
    /// Begins an upload and returns its id.
    pub(crate) fn create_upload(&self, upload: &Upload) -> Result<String, BucketError> {
        let id = daemon::random::hex(16);
        let directory = self.uploads.join(&id);
        create_dir_durable(&*self.disk, "upload:create", &directory).map_err(doing("create an upload"))?;
        let json = serde_json::to_vec(upload).map_err(|error| doing("create an upload")(error.into()))?;
        write_atomic(
            &*self.disk,
            "upload:create",
            &directory.join("upload"),
            &json,
            0o600,
        )
        .map_err(doing("create an upload"))?;
        Ok(id)
    }

    /// Reads what an upload is for, if `id` is one of `key`.
    pub(crate) fn upload(&self, id: &str, key: &str) -> Result<Upload, BucketError> {
        let upload = self.read_upload(id)?;
        if upload.key == key {
            Ok(upload)
        } else {
            Err(BucketError::NoSuchUpload)
        }
    }

    fn read_upload(&self, id: &str) -> Result<Upload, BucketError> {
        let path = self.upload_directory(id)?.join("upload");
        let file = match self.disk.open("upload:read", &path, OpenOptions::READ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BucketError::NoSuchUpload),
            other => other.map_err(doing("read an upload"))?,
        };
        let len = file.len().map_err(doing("read an upload"))?;
        let mut json = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(&mut json, 0)
            .map_err(doing("read an upload"))?;
        serde_json::from_slice(&json).map_err(|error| doing("read an upload")(error.into()))
    }

    /// The directory of an upload; ids come from the network, and must not lead elsewhere.
    fn upload_directory(&self, id: &str) -> Result<PathBuf, BucketError> {
        if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(self.uploads.join(id))
        } else {
            Err(BucketError::NoSuchUpload)
        }
    }

    /// Adds a staged part to an upload, in place of an earlier one of that number.
    pub(crate) fn commit_part(
        &self,
        id: &str,
        key: &str,
        number: u32,
        staged: Temporary,
    ) -> Result<(), BucketError> {
        self.upload(id, key)?;
        let directory = self.upload_directory(id)?;
        match self
            .disk
            .rename("upload:part", staged.path(), &directory.join(part_name(number)))
        {
            // Completed or aborted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BucketError::NoSuchUpload),
            other => other.map_err(doing("rename a part"))?,
        }
        staged.keep();
        self.disk
            .sync_dir("upload:part", &directory)
            .map_err(doing("sync an upload"))
    }

    /// Lists the parts of an upload, ascending.
    pub(crate) fn parts(&self, id: &str, key: &str) -> Result<Vec<UploadedPart>, BucketError> {
        self.upload(id, key)?;
        let directory = self.upload_directory(id)?;
        let mut parts = Vec::new();
        for entry in self.disk.list(&directory).map_err(doing("list an upload"))? {
            let Some(number) = entry
                .name
                .strip_prefix("part.")
                .and_then(|number| number.parse().ok())
            else {
                continue;
            };
            let reader = self.read_part(id, number)?;
            let Record { etag, modified, .. } = reader.record().clone();
            parts.push(UploadedPart {
                number,
                etag,
                size_bytes: reader.data_bytes(),
                modified,
            });
        }
        Ok(parts)
    }

    fn read_part(&self, id: &str, number: u32) -> Result<ObjectReader, BucketError> {
        let path = self.upload_directory(id)?.join(part_name(number));
        let file = match self.disk.open("upload:read", &path, OpenOptions::READ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BucketError::InvalidPart),
            other => other.map_err(doing("open a part"))?,
        };
        ObjectReader::open(file).map_err(BucketError::Damaged)
    }

    /// Joins parts into the object, under `condition`, and ends the upload.
    ///
    /// * `wanted`: number and etag of each part, as the client remembers them.
    /// * `size_bytes`: of the object, if the client says.
    pub(crate) fn complete_upload(
        &self,
        id: &str,
        key: &str,
        wanted: &[(u32, String)],
        size_bytes: Option<u64>,
        condition: &Condition,
    ) -> Result<(Record, Digest), BucketError> {
        let Upload {
            key,
            headers,
            metadata,
            ..
        } = self.upload(id, key)?;
        if wanted.is_empty() {
            return Err(BucketError::InvalidPart);
        }
        if !wanted.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(BucketError::InvalidPartOrder);
        }
        let mut readers = Vec::with_capacity(wanted.len());
        for (i, (number, etag)) in wanted.iter().enumerate() {
            let reader = self.read_part(id, *number)?;
            if reader.record().etag != *etag {
                return Err(BucketError::InvalidPart);
            }
            if i + 1 < wanted.len() && reader.data_bytes() < PART_BYTES_MIN {
                return Err(BucketError::PartTooSmall { number: *number });
            }
            readers.push(reader);
        }
        let joined_bytes = readers.iter().map(ObjectReader::data_bytes).sum::<u64>();
        if size_bytes.is_some_and(|size_bytes| size_bytes != joined_bytes) {
            return Err(BucketError::InvalidPart);
        }
        let (staged, mut writer) = self.stage()?;
        for reader in &readers {
            let mut at = 0;
            while at < reader.data_bytes() {
                let end = (at + COPY_BYTES).min(reader.data_bytes());
                let bytes = reader.read(at..end).map_err(BucketError::Damaged)?;
                writer.write(&bytes).map_err(doing("join parts"))?;
                at = end;
            }
        }
        let digest = writer.digest();
        let record = Record {
            key,
            etag: format!("{}-{}", digest.hash, wanted.len()),
            modified: self.clock.now(),
            headers,
            metadata,
            checksums: crate::checksum::crc32_only(digest.crc32),
        };
        writer.finish(&record).map_err(doing("finish an object"))?;
        self.commit(staged, &record, &digest, condition)?;
        // The object stands. Should this fail, the upload is still listed, and can be aborted.
        if let Err(error) = self.abort_upload(id) {
            warn!(upload = id, %error, "completed upload was not removed");
        }
        Ok((record, digest))
    }

    /// Removes an upload and its parts.
    pub(crate) fn abort_upload(&self, id: &str) -> Result<(), BucketError> {
        let directory = self.upload_directory(id)?;
        match self.disk.remove_dir_all("upload:remove", &directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BucketError::NoSuchUpload),
            other => other.map_err(doing("remove an upload"))?,
        }
        self.disk
            .sync_dir("upload:remove", &self.uploads)
            .map_err(doing("sync the uploads"))
    }

    /// Lists the uploads that are under way, by key, then by id.
    pub(crate) fn uploads(&self) -> Result<Vec<(Upload, String)>, BucketError> {
        let mut uploads = Vec::new();
        for entry in self.disk.list(&self.uploads).map_err(doing("list uploads"))? {
            match self.read_upload(&entry.name) {
                Ok(upload) => uploads.push((upload, entry.name)),
                Err(BucketError::NoSuchUpload) => {}
                Err(error) => return Err(error),
            }
        }
        uploads.sort_by(|(a, a_id), (b, b_id)| (&a.key, a_id).cmp(&(&b.key, b_id)));
        Ok(uploads)
    }

    /// Removes uploads that a crash left half created or half removed: those without their `upload` file.
    pub(crate) fn sweep_uploads(&self) -> io::Result<()> {
        for entry in self.disk.list(&self.uploads)? {
            let directory = self.uploads.join(&entry.name);
            if self.disk.stat(&directory.join("upload"))?.is_none() {
                self.disk.remove_dir_all("bucket:sweep", &directory)?;
            }
        }
        Ok(())
    }
}

fn part_name(number: u32) -> String {
    format!("part.{number:05}")
}

#[cfg(test)]
mod tests;
