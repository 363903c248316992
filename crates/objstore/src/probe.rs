//! Does this store keep the promises of [`ObjectStore`]? Asked at every start, since everything rests on them.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::s3_store::S3Store;
use crate::store::{
    DeleteError, ETag, GetError, Key, KeyError, ListError, ObjectStore, Outage, Purpose, PutError, Refusal,
    Remedy,
};

/// What a conforming store was seen to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// Requests made, retries not counted.
    pub requests: usize,
    /// Time taken.
    pub took: Duration,
}

/// Why a store must not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The store answers, and breaks promises.
    #[error("object store: {}", Sentences(.0))]
    Lacks(Vec<Lack>),
    /// The store could not be asked.
    #[error("object store: {during}")]
    Unreachable {
        /// What was being done.
        during: &'static str,
        /// What came of it.
        #[source]
        source: Outage,
    },
    /// The store refuses what it is asked.
    #[error("object store: {during}")]
    Refused {
        /// What was being done.
        during: &'static str,
        /// Its answer.
        #[source]
        source: Refusal,
    },
    /// The scratch prefix makes no key.
    #[error("scratch prefix")]
    Scratch(#[source] KeyError),
}

impl ProbeFailure {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Lacks(_) => Remedy::Report,
            Self::Unreachable { .. } => Remedy::Retry,
            Self::Refused { .. } | Self::Scratch(_) => Remedy::FixRequest,
        }
    }
}

/// A promise that the store broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Put-if-absent is not atomic, or ignored.
    #[error(
        "of {creators} clients that created one key at once with If-None-Match, {winners} were told they had; \
         conditional creation is missing or not atomic"
    )]
    CreateRace {
        /// How many tried.
        creators: usize,
        /// How many were told that they succeeded; 1 is right.
        winners: usize,
    },
    /// The race's winner is not what stands there.
    #[error("the object of the client that was told it had created it is not the one that stands there")]
    WrongWinner,
    /// Put-if-match ignores its condition.
    #[error("a put with a stale If-Match replaced the object; conditional replacement is missing")]
    StaleMatchAccepted,
    /// Put-if-match creates.
    #[error("a put with If-Match created an object that did not exist")]
    MatchCreates,
    /// Put-if-match is not atomic.
    #[error(
        "of {writers} clients that replaced one version at once with If-Match, {winners} were told they had"
    )]
    MatchRace {
        /// How many tried.
        writers: usize,
        /// How many were told that they succeeded; 1 is right.
        winners: usize,
    },
    /// A put is not seen by the next get.
    #[error("a get right after a put did not return what was put")]
    ReadAfterWrite,
    /// A put is not seen by the next list.
    #[error("a list right after a put does not show it")]
    ListAfterWrite,
    /// Pages of a listing overlap, or leave keys out.
    #[error("a listing read page by page is not the listing")]
    Paging,
    /// A range is not the bytes asked for.
    #[error("bytes {start}..{end} of an object came back wrong: {got_bytes} bytes")]
    Range {
        /// First byte asked for.
        start: u64,
        /// End of the range.
        end: u64,
        /// How many came.
        got_bytes: u64,
    },
    /// A range past the end is answered with something.
    #[error("a range past the object's end was not refused")]
    RangePastEnd,
    /// Bodies come shorter than announced, again and again.
    #[error("a get brought {got_bytes} of {expected_bytes} bytes, every time")]
    ShortRead {
        /// Bytes announced.
        expected_bytes: u64,
        /// Bytes that came.
        got_bytes: u64,
    },
    /// Bodies come changed.
    #[error("a get brought other bytes than were put")]
    ChangedRead,
    /// A deleted object is still there.
    #[error("a deleted object is still {seen}")]
    DeleteIgnored {
        /// Where: `read` or `listed`.
        seen: &'static str,
    },
    /// User metadata is dropped, by which an unanswered put is recognised.
    #[error(
        "user metadata (x-amz-meta-…) of an object is not kept; a put whose answer is lost cannot be recognised"
    )]
    MetadataDropped,
}

struct Sentences<'a>(&'a [Lack]);

impl fmt::Display for Sentences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, lack) in self.0.iter().enumerate() {
            write!(f, "{}{lack}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

const PROBE: Purpose = Purpose("probe");
/// Clients that race in each race.
const RACERS: usize = 64;
/// Size of the object that ranges are read from: more than one TCP window, odd on purpose.
const PATTERN_BYTES: usize = (256 << 10) + 13;

/// Checks every promise of [`ObjectStore`] on a live store, and removes what it wrote.
///
/// * `scratch`: a prefix of keys that nobody else uses, e.g. `probe/` and a random id.
/// * Cost: about 170 requests, most of them concurrent; seconds on a slow link.
///
/// # Errors
/// [`ProbeFailure::Lacks`] names every promise that was broken; the others mean that it could not be found out.
pub async fn probe(store: &dyn ObjectStore, scratch: &str) -> Result<ProbeReport, ProbeFailure> {
    let mut probe = Probe::new(store, scratch)?;
    let result = probe.run().await;
    probe.clean_up().await;
    result?;
    probe.report()
}

impl S3Store {
    /// Does as [`probe`](crate::probe()), and checks also that the store keeps what an unanswered put is recognised by.
    ///
    /// # Errors
    /// As [`probe`](crate::probe()).
    pub async fn probe(&self, scratch: &str) -> Result<ProbeReport, ProbeFailure> {
        let mut probe = Probe::new(self, scratch)?;
        let mut result = probe.run().await;
        if result.is_ok() {
            let key = probe.key("nonce")?;
            match self.keeps_nonce(&key, PROBE).await {
                Ok(true) => {}
                Ok(false) => probe.lacks.push(Lack::MetadataDropped),
                Err(error) => result = Err(put_failure("put of an object with metadata", error)),
            }
        }
        probe.clean_up().await;
        result?;
        probe.report()
    }
}

#[derive(Debug)]
struct Probe<'a> {
    store: &'a dyn ObjectStore,
    scratch: &'a str,
    started: Instant,
    requests: usize,
    written: Vec<Key>,
    lacks: Vec<Lack>,
}

impl<'a> Probe<'a> {
    fn new(store: &'a dyn ObjectStore, scratch: &'a str) -> Result<Self, ProbeFailure> {
        Key::new(format!("{scratch}/x")).map_err(ProbeFailure::Scratch)?;
        let started = Instant::now();
        Ok(Self {
            store,
            scratch,
            started,
            requests: 0,
            written: Vec::new(),
            lacks: Vec::new(),
        })
    }

    /// Names a key below the scratch prefix, to be deleted at the end.
    fn key(&mut self, name: &str) -> Result<Key, ProbeFailure> {
        let key = Key::new(format!("{}/{name}", self.scratch)).map_err(ProbeFailure::Scratch)?;
        if !self.written.contains(&key) {
            self.written.push(key.clone());
        }
        Ok(key)
    }

    async fn run(&mut self) -> Result<(), ProbeFailure> {
        self.creators_race().await?;
        self.writers_race().await?;
        self.ranges().await?;
        self.listing().await?;
        self.deletion().await
    }

    fn report(self) -> Result<ProbeReport, ProbeFailure> {
        if self.lacks.is_empty() {
            return Ok(ProbeReport {
                requests: self.requests,
                took: self.started.elapsed(),
            });
        }
        Err(ProbeFailure::Lacks(self.lacks))
    }

    async fn creators_race(&mut self) -> Result<(), ProbeFailure> {
        let key = self.key("race")?;
        self.requests += RACERS + 1;
        let creators = (0..RACERS).map(|racer| {
            self.store
                .put_if_absent(&key, Bytes::from(format!("creator {racer}")), PROBE)
        });
        let mut winners = Vec::new();
        for (racer, result) in join_all(creators).await.into_iter().enumerate() {
            match result {
                Ok(etag) => winners.push((racer, etag)),
                Err(PutError::Exists { .. }) => {}
                Err(error) => return Err(put_failure("conditional creation by 64 clients at once", error)),
            }
        }
        let [(winner, etag)] = winners.as_slice() else {
            self.lacks.push(Lack::CreateRace {
                creators: RACERS,
                winners: winners.len(),
            });
            return Ok(());
        };
        let stands = self.read(&key, None).await?;
        if stands != Some((Bytes::from(format!("creator {winner}")), etag.clone())) {
            self.lacks.push(Lack::WrongWinner);
        }
        Ok(())
    }

    async fn writers_race(&mut self) -> Result<(), ProbeFailure> {
        let key = self.key("register")?;
        self.requests += RACERS + 5;
        let during = "conditional replacement";
        let put = |result: Result<ETag, PutError>| result.map_err(|error| put_failure(during, error));
        let first = put(self
            .store
            .put_if_absent(&key, Bytes::from_static(b"first"), PROBE)
            .await)?;
        let second = put(self
            .store
            .put_if_match(&key, &first, Bytes::from_static(b"second"), PROBE)
            .await)?;
        if self.read(&key, None).await? != Some((Bytes::from_static(b"second"), second.clone())) {
            self.lacks.push(Lack::ReadAfterWrite);
        }
        let mut current = second;
        match self
            .store
            .put_if_match(&key, &first, Bytes::from_static(b"stale"), PROBE)
            .await
        {
            Ok(etag) => {
                self.lacks.push(Lack::StaleMatchAccepted);
                current = etag;
            }
            Err(PutError::Stale { .. }) => {}
            Err(error) => return Err(put_failure(during, error)),
        }
        let missing = self.key("missing")?;
        match self
            .store
            .put_if_match(&missing, &current, Bytes::from_static(b"x"), PROBE)
            .await
        {
            Ok(_) => self.lacks.push(Lack::MatchCreates),
            Err(PutError::Stale { .. }) => {}
            Err(error) => return Err(put_failure(during, error)),
        }
        let writers = (0..RACERS).map(|racer| {
            self.store
                .put_if_match(&key, &current, Bytes::from(format!("writer {racer}")), PROBE)
        });
        let mut winners = 0;
        for result in join_all(writers).await {
            match result {
                Ok(_) => winners += 1,
                Err(PutError::Stale { .. }) => {}
                Err(error) => {
                    return Err(put_failure(
                        "conditional replacement by 64 clients at once",
                        error,
                    ));
                }
            }
        }
        if winners != 1 {
            self.lacks.push(Lack::MatchRace {
                writers: RACERS,
                winners,
            });
        }
        Ok(())
    }

    async fn ranges(&mut self) -> Result<(), ProbeFailure> {
        let key = self.key("pattern")?;
        let pattern: Bytes = (0..251).cycle().take(PATTERN_BYTES).collect::<Vec<u8>>().into();
        let total = PATTERN_BYTES as u64;
        let put = self.store.put_if_absent(&key, pattern.clone(), PROBE).await;
        put.map_err(|error| put_failure("put of 256 KiB", error))?;
        self.requests += 7;
        match self.read(&key, None).await? {
            Some((bytes, _)) if bytes == pattern => {}
            Some((bytes, _)) if bytes.len() < PATTERN_BYTES => {
                self.lacks.push(Lack::ShortRead {
                    expected_bytes: total,
                    got_bytes: bytes.len() as u64,
                });
            }
            Some(_) => self.lacks.push(Lack::ChangedRead),
            None => {}
        }
        for range in [0..1, 65_530..131_080, total - 7..total, total - 7..total + 100] {
            let end = range.end.min(total);
            let (from, to) = (usize::try_from(range.start), usize::try_from(end));
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            if let Some((bytes, _)) = self.read(&key, Some(range.clone())).await?
                && bytes != pattern[from..to]
            {
                let got_bytes = bytes.len() as u64;
                self.lacks.push(Lack::Range {
                    start: range.start,
                    end: range.end,
                    got_bytes,
                });
            }
        }
        match self.store.get(&key, Some(total..total + 1), PROBE).await {
            Err(GetError::OutOfRange { .. }) => {}
            Ok(_) => self.lacks.push(Lack::RangePastEnd),
            Err(error) => self.note_get("ranged get past the end", error)?,
        }
        Ok(())
    }

    async fn listing(&mut self) -> Result<(), ProbeFailure> {
        let mut expected = Vec::new();
        for name in ["list/a", "list/a-b", "list/a/b", "list/b"] {
            let key = self.key(name)?;
            let put = self
                .store
                .put_if_absent(&key, Bytes::from_static(b"listed"), PROBE)
                .await;
            put.map_err(|error| put_failure("put before a list", error))?;
            expected.push(key);
            let seen = self.list("list/", usize::MAX).await?;
            if seen != expected {
                self.lacks.push(Lack::ListAfterWrite);
                return Ok(());
            }
        }
        self.requests += 8;
        if self.list("list/", 1).await? != expected {
            self.lacks.push(Lack::Paging);
        }
        Ok(())
    }

    async fn deletion(&mut self) -> Result<(), ProbeFailure> {
        let key = self.key("deleted")?;
        self.requests += 6;
        let put = self
            .store
            .put_if_absent(&key, Bytes::from_static(b"x"), PROBE)
            .await;
        put.map_err(|error| put_failure("put before a delete", error))?;
        for _ in 0..2 {
            self.store
                .delete(&key, PROBE)
                .await
                .map_err(|error| match error {
                    DeleteError::Unavailable { source, .. } => ProbeFailure::Unreachable {
                        during: "delete",
                        source,
                    },
                    DeleteError::Refused { source, .. } => ProbeFailure::Refused {
                        during: "delete",
                        source,
                    },
                })?;
        }
        match self.store.get(&key, None, PROBE).await {
            Ok(_) => self.lacks.push(Lack::DeleteIgnored { seen: "read" }),
            Err(GetError::NotFound { .. }) => {}
            Err(error) => self.note_get("get of a deleted object", error)?,
        }
        if !self.list("deleted", usize::MAX).await?.is_empty() {
            self.lacks.push(Lack::DeleteIgnored { seen: "listed" });
        }
        match self
            .store
            .put_if_absent(&key, Bytes::from_static(b"again"), PROBE)
            .await
        {
            Ok(_) => Ok(()),
            Err(PutError::Exists { .. }) => {
                self.lacks.push(Lack::DeleteIgnored {
                    seen: "in the way of a new one",
                });
                Ok(())
            }
            Err(error) => Err(put_failure("put after a delete", error)),
        }
    }

    /// Reads an object; what a get finds wrong is noted, and `None` returned.
    async fn read(
        &mut self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> Result<Option<(Bytes, ETag)>, ProbeFailure> {
        match self.store.get(key, range, PROBE).await {
            Ok(object) => Ok(Some((object.bytes, object.etag))),
            Err(error) => self.note_get("get", error).map(|()| None),
        }
    }

    fn note_get(&mut self, during: &'static str, error: GetError) -> Result<(), ProbeFailure> {
        self.lacks.push(match error {
            GetError::NotFound { .. } => Lack::ReadAfterWrite,
            GetError::Short {
                expected_bytes,
                got_bytes,
                ..
            } => Lack::ShortRead {
                expected_bytes,
                got_bytes,
            },
            GetError::Corrupt { .. } => Lack::ChangedRead,
            GetError::OutOfRange { start, end, .. } => Lack::Range {
                start,
                end,
                got_bytes: 0,
            },
            GetError::Unavailable { source, .. } => return Err(ProbeFailure::Unreachable { during, source }),
            GetError::Refused { source, .. } => return Err(ProbeFailure::Refused { during, source }),
        });
        Ok(())
    }

    /// Lists everything below a part of the scratch prefix, `limit` keys at a time.
    async fn list(&mut self, below: &str, limit: usize) -> Result<Vec<Key>, ProbeFailure> {
        let prefix = format!("{}/{below}", self.scratch);
        let mut keys: Vec<Key> = Vec::new();
        loop {
            self.requests += 1;
            let page = self
                .store
                .list(&prefix, keys.last().map(Key::as_str), limit, PROBE)
                .await;
            let page = page.map_err(|error| match error {
                ListError::Unavailable { source, .. } => ProbeFailure::Unreachable {
                    during: "list",
                    source,
                },
                ListError::Refused { source, .. } => ProbeFailure::Refused {
                    during: "list",
                    source,
                },
                ListError::Senseless { .. } => ProbeFailure::Lacks(vec![Lack::Paging]),
            })?;
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            // Never more than the probe wrote: a listing that goes in circles ends here.
            if !page.more || keys.len() > self.written.len() {
                return Ok(keys);
            }
        }
    }

    /// Deletes whatever may have been written. What cannot be deleted stays: the verdict is not about that.
    async fn clean_up(&mut self) {
        let deletions = self.written.iter().map(|key| self.store.delete(key, PROBE));
        join_all(deletions).await;
    }
}

fn put_failure(during: &'static str, error: PutError) -> ProbeFailure {
    match error {
        PutError::Unavailable { source, .. } => ProbeFailure::Unreachable { during, source },
        PutError::Refused { source, .. } => ProbeFailure::Refused { during, source },
        // A key that nobody else uses is taken, or changed by nobody.
        PutError::Exists { .. } => ProbeFailure::Lacks(vec![Lack::DeleteIgnored { seen: "there" }]),
        PutError::Stale { .. } => ProbeFailure::Lacks(vec![Lack::ReadAfterWrite]),
        PutError::Conflict { attempts, .. } => ProbeFailure::Refused {
            during,
            source: Refusal {
                status: 409,
                code: "ConditionalRequestConflict".to_owned(),
                message: format!("conflicting requests after {attempts} attempts"),
            },
        },
    }
}

#[cfg(test)]
mod tests;
