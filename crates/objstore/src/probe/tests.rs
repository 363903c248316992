use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::faults::{Call, Damage, Fault};
use crate::{FaultStore, MemoryStore, Object, Page};

/// What a store may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    IgnoresIfNoneMatch,
    IgnoresIfMatch,
    MatchCreates,
    ChecksThenWrites,
    StaleList,
    KeepsDeleted,
}

/// A store in memory that lacks one thing.
#[derive(Debug)]
struct Flawed {
    memory: MemoryStore,
    flaw: Flaw,
    listed: AtomicBool,
}

#[async_trait]
impl ObjectStore for Flawed {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        match self.flaw {
            Flaw::IgnoresIfNoneMatch => {
                self.memory.delete(key, purpose).await.unwrap();
            }
            Flaw::ChecksThenWrites => {
                // As s3s-fs does: look, give way to others, write.
                if self.memory.get(key, None, purpose).await.is_ok() {
                    return Err(PutError::Exists {
                        key: key.clone(),
                        maybe_applied: false,
                    });
                }
                tokio::task::yield_now().await;
                self.memory.delete(key, purpose).await.unwrap();
            }
            _ => {}
        }
        self.memory.put_if_absent(key, body, purpose).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let current = self.memory.get(key, None, purpose).await;
        match (self.flaw, current) {
            (Flaw::IgnoresIfMatch, Ok(object)) => {
                self.memory.put_if_match(key, &object.etag, body, purpose).await
            }
            (Flaw::MatchCreates, Err(_)) => self.memory.put_if_absent(key, body, purpose).await,
            _ => self.memory.put_if_match(key, expected, body, purpose).await,
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        self.memory.get(key, range, purpose).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        let mut page = self.memory.list(prefix, after, limit, purpose).await?;
        if self.flaw == Flaw::StaleList && !self.listed.swap(true, Ordering::Relaxed) {
            page.entries.clear();
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        if self.flaw == Flaw::KeepsDeleted && key.as_str().ends_with("/deleted") {
            return Ok(());
        }
        self.memory.delete(key, purpose).await
    }
}

async fn lacks(flaw: Flaw) -> Vec<Lack> {
    let store = Flawed {
        memory: MemoryStore::new(),
        flaw,
        listed: AtomicBool::new(false),
    };
    match probe(&store, "probe/1").await {
        Err(ProbeFailure::Lacks(lacks)) => lacks,
        other => panic!("{flaw:?} passed: {other:?}"),
    }
}

#[tokio::test]
async fn a_conforming_store_passes_and_is_left_as_it_was() {
    let memory = MemoryStore::new();
    let report = probe(&memory, "probe/1").await.unwrap();
    assert!(report.requests > 2 * RACERS);
    assert_eq!(memory.objects(), 0);
}

#[tokio::test]
async fn a_missing_or_half_made_condition_is_named() {
    assert!(lacks(Flaw::IgnoresIfNoneMatch).await.contains(&Lack::CreateRace {
        creators: 64,
        winners: 64
    }));
    assert!(lacks(Flaw::ChecksThenWrites).await.contains(&Lack::CreateRace {
        creators: 64,
        winners: 64
    }));
    let ignored = lacks(Flaw::IgnoresIfMatch).await;
    assert!(ignored.contains(&Lack::StaleMatchAccepted), "{ignored:?}");
    assert!(
        ignored.contains(&Lack::MatchRace {
            writers: 64,
            winners: 64
        }),
        "{ignored:?}"
    );
    assert_eq!(lacks(Flaw::MatchCreates).await, [Lack::MatchCreates]);
}

#[tokio::test]
async fn a_listing_that_lags_and_a_delete_that_does_nothing_are_named() {
    assert_eq!(lacks(Flaw::StaleList).await, [Lack::ListAfterWrite]);
    assert!(
        lacks(Flaw::KeepsDeleted)
            .await
            .contains(&Lack::DeleteIgnored { seen: "read" })
    );
}

#[tokio::test]
async fn short_and_changed_reads_are_named() {
    type Expected = fn(&Lack) -> bool;
    let cases: [(Damage, Expected); 3] = [
        (Damage::Truncate { keep_bytes: 5 }, |lack| {
            matches!(lack, Lack::ShortRead { got_bytes: 5, .. })
        }),
        (Damage::Short { got_bytes: 3 }, |lack| {
            matches!(lack, Lack::ShortRead { got_bytes: 3, .. })
        }),
        (Damage::Flip, |lack| *lack == Lack::ChangedRead),
    ];
    for (damage, expected) in cases {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.inject(Fault::always(Call::Get, damage.clone()));
        match probe(&store, "probe/1").await {
            Err(ProbeFailure::Lacks(lacks)) => assert!(lacks.iter().any(expected), "{damage:?}: {lacks:?}"),
            other => panic!("{damage:?} passed: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_not_called_incapable_and_is_cleaned_up_all_the_same() {
    let memory = MemoryStore::new();
    let store = FaultStore::new(Arc::new(memory.clone()));
    store.inject(Fault::always(Call::List, Damage::FailBefore));
    let failure = probe(&store, "probe/1").await.unwrap_err();
    assert_eq!(failure.remedy(), Remedy::Retry);
    assert_eq!(memory.objects(), 0);
}

#[tokio::test]
async fn a_failure_says_everything_in_one_sentence() {
    let failure = ProbeFailure::Lacks(vec![Lack::StaleMatchAccepted, Lack::ListAfterWrite]);
    let text = failure.to_string();
    assert!(
        text.contains("stale If-Match") && text.contains("; a list right after"),
        "{text}"
    );
    assert!(matches!(
        probe(&MemoryStore::new(), "a//b").await,
        Err(ProbeFailure::Scratch(_))
    ));
}
