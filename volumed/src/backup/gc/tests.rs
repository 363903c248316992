use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use objstore::faults::{Call, Damage as Fault, Fault as Injected};
use objstore::{ETag, FaultStore, Key, MemoryStore, Object, ObjectStore, Page, Purpose};

use super::*;
use crate::backup::tests::{
    Memory, VOLUME, backups_on, head_of, keys, memory_backups, put, small_block, snapshot, time,
};
use crate::backup::{Progress, UploadError, abandon, delete_manifest, upload, verify};

const DAY: i64 = 24 * 3600;

fn policy() -> GcPolicy {
    GcPolicy::default()
}

async fn collect(backups: &Backups, day: i64) -> GcReport {
    gc(backups, VOLUME, &[], time(day * DAY), &policy())
        .await
        .unwrap()
}

async fn stored_blocks(store: &dyn ObjectStore) -> usize {
    keys(store, &blocks_prefix(VOLUME)).await.len()
}

/// Snapshot 1 has blocks 1 and 2; snapshot 2, based on it, 2 and 3.
async fn two_snapshots(backups: &Backups) -> Memory {
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    put(backups, "vs_1", &image, None).await;
    image.set(0, small_block(3));
    put(backups, "vs_2", &image, Some("vs_1")).await;
    image
}

async fn assert_whole(backups: &Backups, id: &str) {
    let report = verify(backups, &snapshot(id), &Progress::default())
        .await
        .unwrap();
    assert!(report.is_whole(), "{id}: {:?}", report.damages);
}

#[tokio::test]
async fn blocks_of_a_deleted_snapshot_go_after_the_grace_and_shared_ones_stay() {
    let (store, backups) = memory_backups();
    two_snapshots(&backups).await;
    assert_eq!(collect(&backups, 0).await, GcReport::default());
    delete_manifest(&backups, &snapshot("vs_1"), time(0))
        .await
        .unwrap();
    let marked = collect(&backups, 0).await;
    assert_eq!((marked.marked_blocks, marked.swept_blocks), (1, 0));
    assert_eq!(marked.waiting, Some(Waiting::Grace { until: time(DAY) }));
    let early = gc(&backups, VOLUME, &[], time(DAY - 1), &policy()).await.unwrap();
    assert_eq!((early.swept_blocks, stored_blocks(&store).await), (0, 3));
    let swept = collect(&backups, 1).await;
    assert_eq!(
        (swept.swept_blocks, swept.kept_blocks, stored_blocks(&store).await),
        (1, 0, 2)
    );
    assert_whole(&backups, "vs_2").await;
    // The void manifest goes a week after the deletion; the register stays.
    assert_eq!(collect(&backups, 6).await.tombstones, 0);
    assert_eq!(collect(&backups, 7).await.tombstones, 1);
    assert_eq!(keys(&store, "backup/").await.len(), 2 + 1 + 1);
}

#[tokio::test]
async fn a_volume_without_snapshots_loses_all_its_blocks() {
    let (store, backups) = memory_backups();
    two_snapshots(&backups).await;
    for id in ["vs_1", "vs_2"] {
        delete_manifest(&backups, &snapshot(id), time(0)).await.unwrap();
        delete_manifest(&backups, &snapshot(id), time(1)).await.unwrap();
    }
    collect(&backups, 0).await;
    collect(&backups, 8).await;
    let register = state::load(&store, VOLUME).await.unwrap();
    assert!(register.state.candidates.is_none() && register.state.epoch > 0);
    assert_eq!(
        keys(&store, "backup/").await,
        [super::super::names::state_key(VOLUME)]
    );
}

#[tokio::test]
async fn an_upload_that_did_not_end_holds_every_sweep_until_it_is_abandoned() {
    let (inner, backups) = memory_backups();
    let image = two_snapshots(&backups).await;
    delete_manifest(&backups, &snapshot("vs_1"), time(0))
        .await
        .unwrap();
    collect(&backups, 0).await;

    let failing = FaultStore::new(Arc::new(inner.clone()));
    failing.inject(Injected::always(Call::Put, Fault::FailBefore).on(MANIFEST));
    image.set(1, small_block(4));
    let head = head_of(VOLUME, "vs_3", 8 << 20);
    let stopped = upload(
        &backups_on(Arc::new(failing)),
        head,
        &image,
        Some("vs_2".into()),
        &Progress::default(),
    )
    .await;
    assert!(stopped.is_err());
    let held = collect(&backups, 30).await;
    assert_eq!(
        held.waiting,
        Some(Waiting::Uploads {
            snapshot_ids: vec!["vs_3".to_owned()]
        })
    );
    assert_eq!(stored_blocks(&inner).await, 4);

    abandon(&backups, &snapshot("vs_3"), time(30 * DAY))
        .await
        .unwrap();
    assert_eq!(collect(&backups, 30).await.swept_blocks, 1);
    assert_eq!(collect(&backups, 31).await.swept_blocks, 1);
    assert_eq!(stored_blocks(&inner).await, 2);
    assert_whole(&backups, "vs_2").await;
}

#[tokio::test]
async fn an_unreadable_manifest_stops_the_sweep_until_it_is_deleted() {
    let (store, backups) = memory_backups();
    two_snapshots(&backups).await;
    delete_manifest(&backups, &snapshot("vs_1"), time(0))
        .await
        .unwrap();
    collect(&backups, 0).await;
    assert!(store.damage(&snapshot("vs_2").manifest_key(), |bytes| bytes[300] ^= 1));
    let error = gc(&backups, VOLUME, &[], time(DAY), &policy()).await.unwrap_err();
    assert!(matches!(error, GcError::Manifest(ManifestError::Damaged(_))));
    assert_eq!(
        (error.remedy(), stored_blocks(&store).await),
        (Remedy::FixData, 3)
    );
    delete_manifest(&backups, &snapshot("vs_2"), time(DAY))
        .await
        .unwrap();
    assert_eq!(collect(&backups, 2).await.swept_blocks, 1);
}

#[tokio::test]
async fn a_listing_that_lacks_the_manifest_of_a_known_snapshot_does_not_cost_its_blocks() {
    for lost in [false, true] {
        let (inner, plain) = memory_backups();
        two_snapshots(&plain).await;
        delete_manifest(&plain, &snapshot("vs_1"), time(0)).await.unwrap();
        let key = snapshot("vs_2").manifest_key();
        if lost {
            inner.delete(&key, Purpose("test")).await.unwrap();
        }
        let backups = backups_on(Arc::new(Unlisted {
            inner: inner.clone(),
            key,
        }));
        let kept = [snapshot("vs_2")];
        for day in 0..4 {
            let collected = gc(&backups, VOLUME, &kept, time(day * DAY), &policy()).await;
            match (lost, collected) {
                (true, Err(GcError::Manifest(ManifestError::NotFound { .. }))) | (false, Ok(_)) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
        assert_eq!(stored_blocks(&inner).await, if lost { 3 } else { 2 });
        // Nobody vouches for it any more.
        for day in 5..9 {
            collect(&backups, day).await;
        }
        assert_eq!(stored_blocks(&inner).await, 0);
    }
}

#[tokio::test]
async fn a_list_or_get_that_fails_deletes_nothing_and_the_next_run_goes_on() {
    for call in [Call::List, Call::Get, Call::Put, Call::Delete] {
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            let mut skip = 0;
            loop {
                let (inner, backups) = memory_backups();
                two_snapshots(&backups).await;
                delete_manifest(&backups, &snapshot("vs_1"), time(0))
                    .await
                    .unwrap();
                collect(&backups, 0).await;
                let store = FaultStore::new(Arc::new(inner.clone()));
                store.inject(Injected::next(call, fault.clone()).after(skip));
                let failed = gc(&backups_on(Arc::new(store)), VOLUME, &[], time(DAY), &policy()).await;
                if call == Call::List || call == Call::Get {
                    // Those of the sweep come before its first deletion; those of the mark after it find it done.
                    assert!([2, 3].contains(&stored_blocks(&inner).await));
                }
                assert_whole(&backups, "vs_2").await;
                collect(&backups, 1).await;
                collect(&backups, 2).await;
                assert_eq!(stored_blocks(&inner).await, 2, "{call:?} {fault:?} {skip}");
                assert!(keys(&inner, &candidates_prefix(VOLUME)).await.is_empty());
                if failed.is_ok() {
                    break;
                }
                skip += 1;
            }
            assert!(skip >= 2, "{call:?} {fault:?} struck {skip} times only");
        }
    }
}

#[tokio::test]
async fn a_lost_or_damaged_list_of_candidates_only_costs_another_mark() {
    for lose in [true, false] {
        let (store, backups) = memory_backups();
        two_snapshots(&backups).await;
        delete_manifest(&backups, &snapshot("vs_1"), time(0))
            .await
            .unwrap();
        collect(&backups, 0).await;
        let list = keys(&store, &candidates_prefix(VOLUME)).await.remove(0);
        if lose {
            store.delete(&list, GC).await.unwrap();
        } else {
            assert!(store.damage(&list, |bytes| bytes[20] ^= 1));
        }
        let again = collect(&backups, 1).await;
        assert_eq!((again.swept_blocks, again.marked_blocks), (0, 1));
        assert_eq!(collect(&backups, 2).await.swept_blocks, 1);
    }
}

#[tokio::test]
async fn foreign_objects_among_the_blocks_are_left_alone() {
    let (store, backups) = memory_backups();
    let foreign = Key::new(format!("backup/{VOLUME}/b/notes.txt")).unwrap();
    store.put_if_absent(&foreign, vec![1].into(), GC).await.unwrap();
    assert_eq!(collect(&backups, 0).await, GcReport::default());
    assert_eq!(collect(&backups, 1).await, GcReport::default());
    assert_eq!(keys(&store, "backup/").await, [foreign]);
}

#[test]
fn lists_of_candidates_read_back_and_damaged_ones_do_not() {
    let name = |writer: &str, byte| BlockName {
        writer: writer.to_owned(),
        address: super::super::Address([byte; 32]),
    };
    let list = vec![name("vs_1", 1), name("x", 2)];
    let bytes = candidates::encode(&list);
    let mut expected = b"HGGC\x01\0\0\0\x02\0\0\0\x04vs_1".to_vec();
    expected.extend_from_slice(&[1; 32]);
    expected.extend_from_slice(b"\x01x");
    expected.extend_from_slice(&[2; 32]);
    expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
    assert_eq!(bytes, expected);
    assert_eq!(candidates::decode(&bytes), Some(list));
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        assert_eq!(candidates::decode(&damaged), None);
        assert_eq!(candidates::decode(&bytes[..at]), None);
    }
}

type Interruption = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Runs something else before the call number `at`, as another process would come in between.
struct Interrupted {
    inner: MemoryStore,
    calls: AtomicU64,
    at: u64,
    interruption: Mutex<Option<Interruption>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupted(at {})", self.at)
    }
}

impl Interrupted {
    async fn tick(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            let interruption = self.interruption.lock().unwrap().take();
            if let Some(interruption) = interruption {
                interruption().await;
            }
        }
    }
}

#[async_trait]
impl ObjectStore for Interrupted {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        self.tick().await;
        self.inner.put_if_absent(key, body, purpose).await
    }
    async fn put_if_match(
        &self,
        key: &Key,
        etag: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        self.tick().await;
        self.inner.put_if_match(key, etag, body, purpose).await
    }
    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        self.tick().await;
        self.inner.get(key, range, purpose).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        self.tick().await;
        self.inner.list(prefix, after, limit, purpose).await
    }
    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        self.tick().await;
        self.inner.delete(key, purpose).await
    }
}

/// Leaves one object out of its listings.
#[derive(Debug)]
struct Unlisted {
    inner: MemoryStore,
    key: Key,
}

#[async_trait]
impl ObjectStore for Unlisted {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        self.inner.put_if_absent(key, body, purpose).await
    }
    async fn put_if_match(
        &self,
        key: &Key,
        etag: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        self.inner.put_if_match(key, etag, body, purpose).await
    }
    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        self.inner.get(key, range, purpose).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        let mut page = self.inner.list(prefix, after, limit, purpose).await?;
        page.entries.retain(|entry| entry.key != self.key);
        Ok(page)
    }
    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        self.inner.delete(key, purpose).await
    }
}

/// Lets `other` happen before call `at` of `main`, both on one store prepared with [`two_snapshots`]; returns the store
/// and whether the call came.
async fn interleave<M, O>(prepare_gc: bool, at: u64, main: M, other: O) -> (MemoryStore, bool)
where
    M: AsyncFnOnce(Backups),
    O: FnOnce(Backups) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
{
    let (inner, plain) = memory_backups();
    two_snapshots(&plain).await;
    if prepare_gc {
        // vs_1's own block is marked, and due on the next day.
        delete_manifest(&plain, &snapshot("vs_1"), time(0)).await.unwrap();
        collect(&plain, 0).await;
    }
    let store = Arc::new(Interrupted {
        inner: inner.clone(),
        calls: AtomicU64::new(0),
        at,
        interruption: Mutex::new(Some(Box::new(move || other(plain)))),
    });
    main(backups_on(store.clone())).await;
    let came = store.calls.load(Ordering::Relaxed) > at;
    (inner, came)
}

/// The image of snapshot 3: block 1, which snapshot 1 had, and block 2.
fn image_3() -> Memory {
    let image = Memory::of_blocks(2);
    image.set(0, small_block(1));
    image.set(1, small_block(2));
    image
}

async fn upload_3(backups: &Backups, base: &str) -> Result<(), UploadError> {
    let head = head_of(VOLUME, "vs_3", 8 << 20);
    upload(backups, head, &image_3(), Some(base.into()), &Progress::default())
        .await
        .map(drop)
}

#[tokio::test]
async fn a_whole_upload_between_any_two_calls_of_a_sweep_keeps_its_blocks() {
    for base in ["vs_1", "vs_2"] {
        let mut at = 0;
        loop {
            let main = async |backups: Backups| {
                collect(&backups, 1).await;
            };
            let other = move |backups: Backups| -> Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(async move { upload_3(&backups, base).await.unwrap() })
            };
            let (inner, came) = interleave(true, at, main, other).await;
            if !came {
                break;
            }
            let backups = backups_on(Arc::new(inner));
            for id in ["vs_2", "vs_3"] {
                assert_whole(&backups, id).await;
            }
            at += 1;
        }
        assert!(at >= 8, "a sweep makes more than {at} calls");
    }
}

#[tokio::test]
async fn deletion_and_whole_collections_between_any_two_calls_of_an_upload_leave_it_whole() {
    // The upload's base is deleted under it, and two collections run days apart, at every point of the upload.
    let mut at = 0;
    loop {
        let main = async |backups: Backups| {
            upload_3(&backups, "vs_1").await.unwrap();
        };
        let other = |backups: Backups| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                delete_manifest(&backups, &snapshot("vs_1"), time(0))
                    .await
                    .unwrap();
                collect(&backups, 0).await;
                collect(&backups, 2).await;
                collect(&backups, 4).await;
            })
        };
        let (inner, came) = interleave(false, at, main, other).await;
        if !came {
            break;
        }
        let backups = backups_on(Arc::new(inner));
        // Also after everything that may be swept was.
        for day in 5..9 {
            collect(&backups, day).await;
        }
        for id in ["vs_2", "vs_3"] {
            assert_whole(&backups, id).await;
        }
        at += 1;
    }
    assert!(at >= 6, "an upload makes more than {at} calls");
}

#[tokio::test]
async fn abandoning_between_any_two_calls_of_an_upload_leaves_all_of_it_or_nothing() {
    let mut at = 0;
    let mut published = 0;
    loop {
        let main = async |backups: Backups| match upload_3(&backups, "vs_1").await {
            Ok(()) | Err(UploadError::Abandoned { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        let other = |backups: Backups| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                abandon(&backups, &snapshot("vs_3"), time(0)).await.unwrap();
            })
        };
        let (inner, came) = interleave(false, at, main, other).await;
        if !came {
            break;
        }
        let backups = backups_on(Arc::new(inner.clone()));
        for day in 0..9 {
            collect(&backups, day).await;
        }
        let head = crate::backup::head(&backups, &snapshot("vs_3")).await;
        if head.is_ok() {
            published += 1;
            assert_whole(&backups, "vs_3").await;
        }
        assert!(
            state::load(&inner, VOLUME).await.unwrap().state.open.is_empty(),
            "call {at}"
        );
        assert_eq!(stored_blocks(&inner).await, 3, "no block of a lost upload stays");
        at += 1;
    }
    assert!(
        published > 0 && published < at,
        "{published} of {at} were published first"
    );
}

#[tokio::test]
async fn two_collections_at_once_delete_nothing_that_is_in_use() {
    let mut at = 0;
    loop {
        let main = async |backups: Backups| {
            collect(&backups, 1).await;
        };
        let other = |backups: Backups| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                upload_3(&backups, "vs_2").await.unwrap();
                delete_manifest(&backups, &snapshot("vs_2"), time(DAY))
                    .await
                    .unwrap();
                collect(&backups, 1).await;
                collect(&backups, 2).await;
            })
        };
        let (inner, came) = interleave(true, at, main, other).await;
        if !came {
            break;
        }
        let backups = backups_on(Arc::new(inner.clone()));
        for day in 3..6 {
            collect(&backups, day).await;
        }
        assert_whole(&backups, "vs_3").await;
        // Block 1 by snapshot 3 and block 2 by snapshot 1 are all that is left.
        assert_eq!(stored_blocks(&inner).await, 2, "call {at}");
        at += 1;
    }
    assert!(at >= 8, "a collection makes more than {at} calls");
}
