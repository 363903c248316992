//! A disk's end: everything of it in the bucket goes.

use objstore::{DeleteError, Key, ListError, ObjectStore, Purpose};

use super::settings::disk_id;
use crate::volume::VolumeId;

const PURPOSE: Purpose = Purpose("disk_erase");
/// Keys of one page of a listing.
const LIST_PAGE: usize = 1000;

/// Why a disk is not gone yet. Again, it goes on where it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// Its objects could not be listed.
    #[error("objects of the disk")]
    List(#[from] ListError),
    /// One of them could not be deleted.
    #[error("object of the disk")]
    Delete(#[from] DeleteError),
}

/// Deletes a volume's disk from the bucket: HEAD first, so that nobody opens what is half gone. There being none is a success.
///
/// # Errors
/// [`EraseError`].
pub async fn erase(store: &dyn ObjectStore, volume: &VolumeId) -> Result<(), EraseError> {
    let disk = disk_id(volume);
    let head = super::store::checked(log_disk::head_key(disk));
    store.delete(&head, PURPOSE).await?;
    let prefix = format!("disk/{disk}/");
    loop {
        let page = store.list(&prefix, None, LIST_PAGE, PURPOSE).await?;
        let keys: Vec<Key> = page.entries.into_iter().map(|entry| entry.key).collect();
        for key in &keys {
            store.delete(key, PURPOSE).await?;
        }
        if !page.more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
