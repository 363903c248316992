//! A disk's objects in the bucket: what the engine asks for, in its words.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use log_disk::{DiskId, Etag, GotHead, HeadPut, ObjectName, Pin, PutOutcome, Role, head_key};
use objstore::{DeleteError, ETag, GetError, Key, ListError, Object, ObjectStore, Purpose, PutError, Remedy};
use tracing::warn;

/// Keys of one page of a listing.
const LIST_PAGE: usize = 1000;

/// The bucket, as one disk sees it. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    disk: DiskId,
}

/// Labels of the metrics: what a request is for.
pub(super) mod purpose {
    use objstore::Purpose;

    pub(in crate::disk) const HEAD: Purpose = Purpose("disk_head");
    pub(in crate::disk) const DATA: Purpose = Purpose("disk_data");
    pub(in crate::disk) const COLLECT: Purpose = Purpose("disk_collect");
    pub(in crate::disk) const CHECKPOINT: Purpose = Purpose("disk_checkpoint");
    pub(in crate::disk) const READ: Purpose = Purpose("disk_read");
    pub(in crate::disk) const OPEN: Purpose = Purpose("disk_open");
    pub(in crate::disk) const SWEEP: Purpose = Purpose("disk_sweep");
    pub(in crate::disk) const ABOUT: Purpose = Purpose("disk_about");
}

/// What the objects of a role are put and deleted for.
pub(super) fn purpose_of(role: Role) -> Purpose {
    match role {
        Role::Data => purpose::DATA,
        Role::Gc => purpose::COLLECT,
        Role::Checkpoint => purpose::CHECKPOINT,
    }
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn ObjectStore>, disk: DiskId) -> Self {
        Self { store, disk }
    }

    /// Returns the bucket as another disk sees it, that this one was forked from.
    pub(super) fn of(&self, disk: DiskId) -> Self {
        let store = Arc::clone(&self.store);
        Self { store, disk }
    }

    /// Lists the disk's pins, on one page; `None` when there was no answer, or more than one.
    pub(super) async fn pins(&self) -> Option<Vec<Pin>> {
        let prefix = Pin::prefix(self.disk);
        let listed = self.store.list(&prefix, None, LIST_PAGE, purpose::HEAD).await;
        let page = listed
            .inspect_err(|error| warn!(error = %chain(error), "pins were not listed"))
            .ok()?;
        let rest = |key: &str| key.strip_prefix(&prefix).and_then(Pin::parse);
        let pins = page.entries.iter().filter_map(|entry| rest(entry.key.as_str()));
        (!page.more).then(|| pins.collect())
    }

    fn key(&self, name: ObjectName) -> Key {
        checked(name.key(self.disk))
    }

    /// Looks at HEAD. Whatever is not an answer is [`GotHead::Unknown`].
    pub(super) async fn head(&self) -> GotHead {
        let key = checked(head_key(self.disk));
        match self.store.get(&key, None, purpose::HEAD).await {
            Ok(Object { bytes, etag, .. }) => GotHead::Found {
                bytes,
                etag: Etag(etag.as_str().to_owned()),
            },
            Err(GetError::NotFound { .. }) => GotHead::Missing,
            Err(error) => {
                warn!(error = %chain(&error), "HEAD was not read");
                GotHead::Unknown
            }
        }
    }

    /// Replaces HEAD if it still carries `expected`.
    pub(super) async fn put_head(&self, expected: &Etag, body: Bytes) -> HeadPut {
        let key = checked(head_key(self.disk));
        let expected = ETag::new(expected.0.clone());
        match self
            .store
            .put_if_match(&key, &expected, body, purpose::HEAD)
            .await
        {
            Ok(etag) => HeadPut::Stored(Etag(etag.as_str().to_owned())),
            Err(PutError::Stale { .. }) => HeadPut::Stale,
            Err(error) => {
                warn!(error = %chain(&error), "HEAD was not replaced, or nobody knows");
                HeadPut::Unknown
            }
        }
    }

    /// Makes HEAD if there is none.
    ///
    /// # Errors
    /// [`PutError`]; [`PutError::Exists`] when there is one.
    pub(super) async fn make_head(&self, body: Bytes) -> Result<Etag, PutError> {
        let key = checked(head_key(self.disk));
        let made = self.store.put_if_absent(&key, body, purpose::HEAD).await?;
        Ok(Etag(made.as_str().to_owned()))
    }

    /// Leaves a pin with the disk, whoever left it before.
    ///
    /// # Errors
    /// [`PutError`].
    pub(super) async fn put_pin(&self, pin: Pin) -> Result<(), PutError> {
        let key = checked(pin.key(self.disk));
        match self.store.put_if_absent(&key, Bytes::new(), purpose::HEAD).await {
            Ok(_) | Err(PutError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes a pin away.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub(super) async fn delete_pin(&self, pin: Pin) -> Result<(), DeleteError> {
        self.store
            .delete(&checked(pin.key(self.disk)), purpose::HEAD)
            .await
    }

    /// Puts an object if absent. The same bytes there already are ours, put by an attempt whose answer was lost.
    pub(super) async fn put(&self, name: ObjectName, body: Bytes) -> PutOutcome {
        let (key, purpose) = (self.key(name), purpose_of(name.role));
        match self.store.put_if_absent(&key, body.clone(), purpose).await {
            Ok(_) => PutOutcome::Stored,
            Err(PutError::Exists { .. }) => match self.store.get(&key, None, purpose).await {
                Ok(object) if object.bytes == body => PutOutcome::Stored,
                Ok(_) => PutOutcome::Taken,
                Err(error) => {
                    warn!(error = %chain(&error), "object that stands under our key was not read");
                    PutOutcome::Unknown
                }
            },
            Err(error) => {
                warn!(error = %chain(&error), "object was not put, or nobody knows");
                PutOutcome::Unknown
            }
        }
    }

    /// Deletes an object; says whether it is certainly gone.
    pub(super) async fn delete(&self, name: ObjectName) -> bool {
        let deleted = self.store.delete(&self.key(name), purpose_of(name.role)).await;
        if let Err(error) = &deleted {
            warn!(error = %chain(error), "object was not deleted, or nobody knows");
        }
        deleted.is_ok()
    }

    /// Reads a part of an object, cut off at its end; `None` when there is no such object, or it ends before the part.
    ///
    /// # Errors
    /// [`GetError`] of any other kind.
    pub(super) async fn get(
        &self,
        name: ObjectName,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Option<Bytes>, GetError> {
        match self.store.get(&self.key(name), Some(range), purpose).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(GetError::NotFound { .. } | GetError::OutOfRange { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists every object of a role.
    ///
    /// # Errors
    /// [`ListError`]; never half a list.
    pub(super) async fn list(&self, role: Role, purpose: Purpose) -> Result<Vec<ObjectName>, ListError> {
        let prefix = ObjectName::prefix(self.disk, role);
        let mut names = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .list(&prefix, after.as_deref(), LIST_PAGE, purpose)
                .await?;
            for entry in &page.entries {
                let rest = entry.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                names.extend(ObjectName::parse(role, rest));
            }
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.as_str().to_owned()),
                Some(_) | None => return Ok(names),
            }
        }
    }

    /// Says that `epoch` has given the disk up, and that nothing which it answered is missing in the bucket. Stays for ever: the
    /// slice of that epoch may come back at any time.
    ///
    /// # Errors
    /// [`PutError`].
    pub(super) async fn release(&self, epoch: log_disk::Epoch) -> Result<(), PutError> {
        let key = self.released_key(epoch);
        match self
            .store
            .put_if_absent(&key, Bytes::from_static(RELEASED), purpose::HEAD)
            .await
        {
            Ok(_) | Err(PutError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says whether `epoch` has given the disk up.
    ///
    /// # Errors
    /// [`GetError`].
    pub(super) async fn is_released(&self, epoch: log_disk::Epoch) -> Result<bool, GetError> {
        match self
            .store
            .get(&self.released_key(epoch), None, purpose::HEAD)
            .await
        {
            Ok(_) => Ok(true),
            Err(GetError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is said of the disk's volume, with its version; `None` when nothing is.
    ///
    /// # Errors
    /// [`GetError`].
    pub(super) async fn about(&self) -> Result<Option<(Bytes, ETag)>, GetError> {
        match self.store.get(&self.about_key(), None, purpose::ABOUT).await {
            Ok(Object { bytes, etag, .. }) => Ok(Some((bytes, etag))),
            Err(GetError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says something of the disk's volume, if what was said last still carries `expected`, or nothing was.
    ///
    /// # Errors
    /// [`PutError`].
    pub(super) async fn put_about(&self, expected: Option<&ETag>, body: Bytes) -> Result<ETag, PutError> {
        let key = self.about_key();
        match expected {
            Some(etag) => self.store.put_if_match(&key, etag, body, purpose::ABOUT).await,
            None => self.store.put_if_absent(&key, body, purpose::ABOUT).await,
        }
    }

    fn about_key(&self) -> Key {
        checked(format!("disk/{}/about", self.disk))
    }

    fn released_key(&self, epoch: log_disk::Epoch) -> Key {
        checked(format!("disk/{}/released-{:08x}", self.disk, epoch.0))
    }
}

/// The object that says that an epoch has given a disk up.
const RELEASED: &[u8] = b"hangar disk released 1\n";

pub(super) fn checked(key: String) -> Key {
    match Key::new(key) {
        Ok(key) => key,
        Err(error) => unreachable!("our keys are keys: {error}"),
    }
}

/// Says whether asking again may help.
pub(super) fn worth_another(error: &GetError) -> bool {
    error.remedy() == Remedy::Retry
}

/// Joins an error and its sources by `: `, outermost first.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
