use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::store::Remedy;
use crate::wire::{Fetched, Head, Part, Row};

const TEST: Purpose = Purpose("test");

/// What a scripted transport does to the next request.
#[derive(Debug, Clone)]
enum Trick {
    /// Answers as it should.
    Honest,
    /// 503 without doing anything.
    Unavailable,
    /// Does it, and never answers.
    LoseAnswer,
    /// Does it, and answers 500.
    ApplyThenFail,
    /// Never answers, does nothing.
    Hang,
    /// 409.
    Conflict,
    /// Another client puts this body just before.
    Overtaken(&'static str),
    /// Does it, then another client replaces it, and the answer is lost.
    ReplacedUnseen(&'static str),
    /// Sends a body that breaks off.
    Cut,
    /// Sends a body with a byte changed.
    Flipped,
    /// 403.
    Denied,
}

#[derive(Debug, Clone)]
struct Held {
    body: Bytes,
    etag: ETag,
    stamp: Stamp,
}

#[derive(Debug, Default)]
struct Script {
    objects: Mutex<BTreeMap<String, Held>>,
    tricks: Mutex<VecDeque<Trick>>,
    requests: Mutex<Vec<&'static str>>,
}

impl Script {
    fn play(tricks: &[Trick]) -> Arc<Self> {
        Arc::new(Self {
            tricks: Mutex::new(tricks.iter().cloned().collect()),
            ..Self::default()
        })
    }

    fn next(&self, call: &'static str) -> Trick {
        self.requests.lock().unwrap().push(call);
        self.tricks.lock().unwrap().pop_front().unwrap_or(Trick::Honest)
    }

    fn requests(&self) -> Vec<&'static str> {
        self.requests.lock().unwrap().clone()
    }

    fn set(&self, key: &str, body: &Bytes, stamp: &Stamp) -> ETag {
        let etag = crate::memory::content_etag(body);
        let held = Held {
            body: body.clone(),
            etag: etag.clone(),
            stamp: stamp.clone(),
        };
        self.objects.lock().unwrap().insert(key.to_owned(), held);
        etag
    }

    fn set_foreign(&self, key: &str, body: &'static str) {
        let body = Bytes::from_static(body.as_bytes());
        let stamp = Stamp {
            nonce: "another client's".into(),
            crc32: crc32fast::hash(&body),
        };
        self.set(key, &body, &stamp);
    }

    fn apply(
        &self,
        key: &str,
        condition: &Condition,
        body: &Bytes,
        stamp: &Stamp,
    ) -> Result<ETag, WireError> {
        let current = self
            .objects
            .lock()
            .unwrap()
            .get(key)
            .map(|held| held.etag.clone());
        match (condition, current) {
            (Condition::Absent, None) => Ok(self.set(key, body, stamp)),
            (Condition::Matches(expected), Some(etag)) if *expected == etag => Ok(self.set(key, body, stamp)),
            (Condition::Matches(_), None) => Err(WireError::NotFound),
            _ => Err(WireError::Precondition),
        }
    }
}

fn status(status: u16) -> WireError {
    crate::wire::classify(status, "", "")
}

#[async_trait]
impl Wire for Script {
    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        body: Bytes,
        stamp: &Stamp,
    ) -> Result<ETag, WireError> {
        match self.next("put") {
            Trick::Unavailable => Err(status(503)),
            Trick::LoseAnswer => {
                self.apply(key, condition, &body, stamp).ok();
                std::future::pending().await
            }
            Trick::ApplyThenFail => {
                self.apply(key, condition, &body, stamp).ok();
                Err(status(500))
            }
            Trick::Hang => std::future::pending().await,
            Trick::Conflict => Err(status(409)),
            Trick::Denied => Err(status(403)),
            Trick::Overtaken(other) => {
                self.set_foreign(key, other);
                self.apply(key, condition, &body, stamp)
            }
            Trick::ReplacedUnseen(other) => {
                self.apply(key, condition, &body, stamp).ok();
                self.set_foreign(key, other);
                Err(status(500))
            }
            Trick::Honest | Trick::Cut | Trick::Flipped => self.apply(key, condition, &body, stamp),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<Head>, WireError> {
        match self.next("head") {
            Trick::Unavailable => Err(status(503)),
            Trick::Hang => std::future::pending().await,
            _ => Ok(self.objects.lock().unwrap().get(key).map(|held| Head {
                etag: held.etag.clone(),
                nonce: Some(held.stamp.nonce.clone()),
            })),
        }
    }

    async fn get(&self, key: &str, range: Option<&Range<u64>>) -> Result<Fetched, WireError> {
        let trick = self.next("get");
        let held = self
            .objects
            .lock()
            .unwrap()
            .get(key)
            .cloned()
            .ok_or(WireError::NotFound)?;
        let total_bytes = held.body.len() as u64;
        let part = range.map(|range| Part {
            range: range.start..range.end.min(total_bytes),
            total_bytes,
        });
        let mut bytes = held.body.to_vec();
        if let Some(Part { range, .. }) = &part {
            bytes = held
                .body
                .slice(crate::memory::index(range.start)..crate::memory::index(range.end))
                .to_vec();
        }
        let announced_bytes = Some(bytes.len() as u64);
        match trick {
            Trick::Unavailable => return Err(status(503)),
            Trick::Hang => std::future::pending().await,
            Trick::Cut => bytes.truncate(1),
            Trick::Flipped => bytes[0] ^= 1,
            _ => {}
        }
        let (bytes, crc32) = (bytes.into(), Some(held.stamp.crc32));
        Ok(Fetched {
            bytes,
            etag: held.etag,
            announced_bytes,
            part,
            crc32,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listed, WireError> {
        if matches!(self.next("list"), Trick::Unavailable) {
            return Err(status(503));
        }
        let objects = self.objects.lock().unwrap();
        let wanted = objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        let mut rows: Vec<Row> = wanted
            .map(|(key, held)| Row {
                key: key.clone(),
                size_bytes: held.body.len() as u64,
                etag: held.etag.clone(),
                modified: jiff::Timestamp::UNIX_EPOCH,
            })
            .collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Listed { rows, more })
    }

    async fn delete(&self, key: &str) -> Result<(), WireError> {
        let trick = self.next("delete");
        match trick {
            Trick::Unavailable => Err(status(503)),
            Trick::Denied => Err(status(403)),
            trick => {
                self.objects.lock().unwrap().remove(key);
                if matches!(trick, Trick::ApplyThenFail) {
                    Err(status(500))
                } else {
                    Ok(())
                }
            }
        }
    }
}

fn config() -> S3Config {
    let retries = Retries {
        attempts_max: 4,
        delay_ms_min: 10,
        delay_ms_max: 100,
    };
    S3Config {
        retries,
        prefix: "pre".into(),
        ..S3Config::new("http://127.0.0.1:1", "b", "id", "secret")
    }
}

fn store(script: &Arc<Script>) -> S3Store {
    S3Store::over(script.clone(), &config(), Metrics::unregistered(), [7; 32])
}

fn key() -> Key {
    Key::new("k").unwrap()
}

fn body() -> Bytes {
    Bytes::from_static(b"mine")
}

#[tokio::test(start_paused = true)]
async fn a_created_object_whose_answer_was_lost_is_recognised_as_ours() {
    for trick in [Trick::LoseAnswer, Trick::ApplyThenFail] {
        let script = Script::play(&[trick]);
        let etag = store(&script).put_if_absent(&key(), body(), TEST).await.unwrap();
        assert_eq!(etag, crate::memory::content_etag(b"mine"));
        assert_eq!(script.requests(), ["put", "put", "head"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_object_whose_answer_was_lost_is_recognised_as_ours() {
    let script = Script::play(&[Trick::Honest, Trick::LoseAnswer]);
    let store = store(&script);
    let first = store
        .put_if_absent(&key(), Bytes::from_static(b"first"), TEST)
        .await
        .unwrap();
    let second = store.put_if_match(&key(), &first, body(), TEST).await.unwrap();
    assert_eq!(second, crate::memory::content_etag(b"mine"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_repeated_by_something_on_the_way_is_looked_at_even_on_the_first_attempt() {
    let script = Script::play(&[]);
    let stamp = Stamp {
        nonce: "n".into(),
        crc32: crc32fast::hash(b"mine"),
    };
    script.set("pre/k", &body(), &stamp);
    let put = store(&script)
        .put_stamped(&key(), &Condition::Absent, body(), &stamp, TEST)
        .await;
    assert_eq!(put.unwrap(), crate::memory::content_etag(b"mine"));
    assert_eq!(script.requests(), ["put", "head"]);
}

#[tokio::test(start_paused = true)]
async fn equal_content_of_another_client_is_not_ours() {
    let script = Script::play(&[Trick::Overtaken("mine")]);
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    assert!(
        matches!(
            put,
            Err(PutError::Exists {
                maybe_applied: false,
                ..
            })
        ),
        "{put:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_put_that_may_have_stood_for_a_moment_says_so() {
    let script = Script::play(&[Trick::ReplacedUnseen("theirs")]);
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    assert!(
        matches!(
            put,
            Err(PutError::Exists {
                maybe_applied: true,
                ..
            })
        ),
        "{put:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_put_that_ran_out_of_attempts_takes_a_last_look() {
    let down = Trick::Unavailable;
    let script = Script::play(&[Trick::ApplyThenFail, down.clone(), down.clone(), down.clone()]);
    store(&script).put_if_absent(&key(), body(), TEST).await.unwrap();
    assert_eq!(script.requests(), ["put", "put", "put", "put", "head"]);

    let script = Script::play(&[down.clone(), down.clone(), down.clone(), down]);
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    match put {
        Err(error @ PutError::Unavailable { attempts: 4, .. }) => assert_eq!(error.remedy(), Remedy::Retry),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_again_until_it_ends() {
    let script = Script::play(&[Trick::Conflict, Trick::Conflict]);
    store(&script).put_if_absent(&key(), body(), TEST).await.unwrap();
    let script = Script::play(&[const { Trick::Conflict }; 9]);
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    assert!(
        matches!(put, Err(PutError::Conflict { attempts: 4, .. })),
        "{put:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn replacing_an_object_that_is_gone_is_stale() {
    let script = Script::play(&[]);
    let put = store(&script)
        .put_if_match(&key(), &ETag::new("\"e\""), body(), TEST)
        .await;
    assert!(matches!(put, Err(PutError::Stale { .. })), "{put:?}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_put_whose_object_cannot_be_read_back_stays_open() {
    let down = Trick::Unavailable;
    let script = Script::play(&[
        Trick::Overtaken("theirs"),
        down.clone(),
        down.clone(),
        down.clone(),
        down,
    ]);
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    assert!(matches!(put, Err(PutError::Unavailable { .. })), "{put:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_put_is_not_repeated() {
    let script = Script::play(&[Trick::Denied]);
    let put = store(&script)
        .put_if_absent(&key(), body(), TEST)
        .await
        .unwrap_err();
    assert_eq!(put.remedy(), Remedy::FixRequest);
    assert_eq!(script.requests(), ["put"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_costs_no_more_than_the_deadline() {
    let script = Script::play(&[const { Trick::Hang }; 20]);
    let started = Instant::now();
    let get = store(&script).get(&key(), None, TEST).await;
    assert!(
        matches!(get, Err(GetError::NotFound { .. })),
        "a hang that finds no object answers: {get:?}"
    );
    script.set_foreign("pre/k", "theirs");
    let get = store(&script).get(&key(), None, TEST).await;
    assert!(matches!(get, Err(GetError::Unavailable { .. })), "{get:?}");
    let timeouts = config().timeouts;
    assert!(
        started.elapsed() <= Duration::from_millis(timeouts.read_ms),
        "{:?}",
        started.elapsed()
    );

    let started = Instant::now();
    let put = store(&script).put_if_absent(&key(), body(), TEST).await;
    assert!(matches!(put, Err(PutError::Unavailable { .. })), "{put:?}");
    assert!(
        started.elapsed() <= Duration::from_millis(timeouts.write_ms) + LAST_LOOK,
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_bodies_are_fetched_again_and_named_when_it_does_not_help() {
    let script = Script::play(&[Trick::Cut, Trick::Flipped, Trick::Unavailable]);
    script.set_foreign("pre/k", "theirs");
    let object = store(&script).get(&key(), None, TEST).await.unwrap();
    assert_eq!(object.bytes, "theirs");

    let script = Script::play(&[const { Trick::Cut }; 4]);
    script.set_foreign("pre/k", "theirs");
    let short = store(&script).get(&key(), Some(1..4), TEST).await.unwrap_err();
    assert!(
        matches!(
            short,
            GetError::Short {
                expected_bytes: 3,
                got_bytes: 1,
                ..
            }
        ),
        "{short:?}"
    );

    let script = Script::play(&[const { Trick::Flipped }; 4]);
    script.set_foreign("pre/k", "theirs");
    let corrupt = store(&script).get(&key(), None, TEST).await.unwrap_err();
    assert_eq!(corrupt.remedy(), Remedy::FixData);
}

#[tokio::test(start_paused = true)]
async fn an_empty_range_asks_the_store_nothing() {
    let script = Script::play(&[]);
    let get = store(&script).get(&key(), Some(4..4), TEST).await;
    assert!(matches!(get, Err(GetError::OutOfRange { .. })), "{get:?}");
    assert!(script.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listing_passes_over_foreign_keys_and_always_leaves_something_to_go_on_from() {
    let script = Script::play(&[Trick::Unavailable]);
    for name in ["pre/", "pre/a/", "pre/a//b", "pre/c", "pre/d/", "other/x"] {
        script.set_foreign(name, "x");
    }
    let store = store(&script);
    let first = store.list("", None, 1, TEST).await.unwrap();
    let names: Vec<&str> = first.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((names, first.more), (vec!["c"], true));
    let rest = store.list("", Some("c"), 1, TEST).await.unwrap();
    assert_eq!((rest.entries.len(), rest.more), (0, false));
}

#[test]
fn a_listing_that_contradicts_itself_is_refused() {
    let row = |key: &str| Row {
        key: key.into(),
        size_bytes: 0,
        etag: ETag::new("\"e\""),
        modified: jiff::Timestamp::UNIX_EPOCH,
    };
    let listed = |keys: &[&str], more| Listed {
        rows: keys.iter().map(|key| row(key)).collect(),
        more,
    };
    assert_eq!(
        check_listing(&listed(&["p/a", "p/b"], true), "p/", Some("p/0")),
        Ok(())
    );
    for (bad, after) in [
        (listed(&["p/b", "p/a"], false), None),
        (listed(&["p/a", "p/a"], false), None),
        (listed(&["q/a"], false), None),
        (listed(&["p/a"], false), Some("p/a")),
        (listed(&[], true), None),
    ] {
        assert!(
            check_listing(&bad, "p/", after).is_err(),
            "{bad:?} after {after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_repeated_until_confirmed() {
    let script = Script::play(&[Trick::ApplyThenFail]);
    script.set_foreign("pre/k", "x");
    store(&script).delete(&key(), TEST).await.unwrap();
    assert_eq!(script.requests(), ["delete", "delete"]);
    let script = Script::play(&[Trick::Denied]);
    assert_eq!(
        store(&script).delete(&key(), TEST).await.unwrap_err().remedy(),
        Remedy::FixRequest
    );
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_counted_by_purpose_and_outcome() {
    let script = Script::play(&[Trick::Unavailable, Trick::Unavailable]);
    let metrics = Metrics::unregistered();
    let store = S3Store::over(script, &config(), metrics.clone(), [7; 32]);
    store.put_if_absent(&key(), body(), TEST).await.unwrap();
    assert_eq!(metrics.requests("put", TEST, "outage"), 2);
    assert_eq!(metrics.requests("put", TEST, "ok"), 1);
}
