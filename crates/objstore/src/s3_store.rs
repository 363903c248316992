//! The store over S3: every retry, every deadline, and the answer to "was that put mine?".

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use tracing::debug;

use crate::answer::{check_listing, get_error, outcome, overtaken, refusal, unanswered_put};
use crate::config::{ConnectError, Retries, S3Config, Timeouts};
use crate::metrics::Metrics;
use crate::retry::Budget;
use crate::s3_wire::S3Wire;
use crate::store::{
    DeleteError, ETag, Entry, GetError, Key, ListError, Object, ObjectStore, Outage, Page, Purpose, PutError,
    Refusal,
};
use crate::wire::{Condition, Listed, Stamp, Wire, WireError};

/// A bucket behind the S3 protocol. Clones share connections.
///
/// A put whose answer is lost is sent again under the same condition. If the store then says that the condition
/// does not hold, the object's nonce tells whether this very put had already succeeded.
#[derive(Debug, Clone)]
pub struct S3Store {
    wire: Arc<dyn Wire>,
    prefix: String,
    timeouts: Timeouts,
    retries: Retries,
    dice: Arc<Mutex<StdRng>>,
    metrics: Metrics,
}

/// Longest a final read-back may take, once a put's own deadline has passed.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Whose object stands under a key.
enum Standing {
    Ours(ETag),
    Other,
    Absent,
}

impl S3Store {
    /// Prepares a client for the bucket that `config` names. Sends nothing to the store yet.
    ///
    /// # Errors
    /// [`ConnectError`] when the configuration is wrong in itself.
    pub async fn connect(config: S3Config, metrics: Metrics) -> Result<Self, ConnectError> {
        config.check()?;
        let wire = S3Wire::connect(&config).await;
        Ok(Self::over(
            Arc::new(wire),
            &config,
            metrics,
            daemon::random::bytes(),
        ))
    }

    pub(crate) fn over(wire: Arc<dyn Wire>, config: &S3Config, metrics: Metrics, seed: [u8; 32]) -> Self {
        Self {
            wire,
            prefix: config.key_prefix(),
            timeouts: config.timeouts,
            retries: config.retries,
            dice: Arc::new(Mutex::new(StdRng::from_seed(seed))),
            metrics,
        }
    }

    /// Checks that the store keeps the nonce that goes along with an object, as [`probe`](crate::probe()) cannot.
    ///
    /// Returns the key it used, for the caller to delete, and whether the nonce came back.
    pub(crate) async fn keeps_nonce(&self, key: &Key, purpose: Purpose) -> Result<bool, PutError> {
        let body = Bytes::from_static(b"nonce");
        let stamp = Stamp {
            nonce: daemon::random::hex(16),
            crc32: crc32fast::hash(&body),
        };
        self.put_stamped(key, &Condition::Absent, body, &stamp, purpose)
            .await?;
        match self
            .standing(key, &stamp.nonce, self.write_budget(), purpose)
            .await
        {
            Ok(standing) => Ok(matches!(standing, Standing::Ours(_))),
            Err(error) => Err(unanswered_put(key, 1, error)),
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn read_budget(&self) -> Budget {
        Budget::read(Instant::now(), &self.timeouts, self.retries)
    }

    fn write_budget(&self) -> Budget {
        Budget::write(Instant::now(), &self.timeouts, self.retries)
    }

    /// Makes one attempt: bounded, timed and counted.
    async fn attempt<T>(
        &self,
        budget: &mut Budget,
        call: &'static str,
        purpose: Purpose,
        request: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        let started = Instant::now();
        let limit = budget.start_attempt(started);
        let result = match tokio::time::timeout(limit, request).await {
            Ok(result) => result,
            Err(_) => Err(WireError::Outage(Outage::Timeout { after: limit })),
        };
        let outcome = outcome(&result);
        self.metrics.request(call, purpose, outcome, started.elapsed());
        if let Err(error @ (WireError::Outage(_) | WireError::Damaged(_) | WireError::Conflict)) = &result {
            debug!(call, %purpose, attempt = budget.attempts(), ?error, "request was not answered well");
        }
        result
    }

    /// Waits before the next attempt; false when there is to be none.
    async fn pause(&self, budget: &Budget) -> bool {
        let dice = self
            .dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random::<f64>();
        let Some(delay) = budget.pause(Instant::now(), dice) else {
            return false;
        };
        tokio::time::sleep(delay).await;
        true
    }

    async fn put(
        &self,
        key: &Key,
        condition: Condition,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let stamp = Stamp {
            nonce: daemon::random::hex(16),
            crc32: crc32fast::hash(&body),
        };
        self.put_stamped(key, &condition, body, &stamp, purpose).await
    }

    async fn put_stamped(
        &self,
        key: &Key,
        condition: &Condition,
        body: Bytes,
        stamp: &Stamp,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let full = self.full(key.as_str());
        let mut budget = self.write_budget();
        let mut lost: Option<Outage> = None;
        loop {
            self.metrics.sent(purpose, body.len() as u64);
            let request = self.wire.put(&full, condition, body.clone(), stamp);
            let error = match self.attempt(&mut budget, "put", purpose, request).await {
                Ok(etag) => return Ok(etag),
                Err(error) => error,
            };
            let denied = match error {
                WireError::Precondition => true,
                // If-Match on an object that is gone: S3 answers 404.
                WireError::NotFound => matches!(condition, Condition::Matches(_)),
                WireError::Conflict => false,
                WireError::Outage(outage) => {
                    lost = Some(outage);
                    false
                }
                WireError::Refused(source) => {
                    return Err(PutError::Refused {
                        key: key.clone(),
                        source,
                    });
                }
                WireError::OutOfRange { .. } | WireError::Damaged(_) => {
                    let source = Refusal {
                        status: 416,
                        code: String::new(),
                        message: "range of a put".to_owned(),
                    };
                    return Err(PutError::Refused {
                        key: key.clone(),
                        source,
                    });
                }
            };
            if denied {
                // Also on the first attempt: something between us and the store may have repeated it.
                match self.standing(key, &stamp.nonce, budget, purpose).await {
                    Ok(Standing::Ours(etag)) => return Ok(etag),
                    Ok(Standing::Absent) if *condition == Condition::Absent => {} // deleted since; the key is free
                    Ok(Standing::Other | Standing::Absent) => {
                        return Err(overtaken(key, condition, lost.is_some()));
                    }
                    Err(error) => return Err(unanswered_put(key, budget.attempts(), error)),
                }
            }
            if !self.pause(&budget).await {
                return self.give_up(key, condition, stamp, budget, lost, purpose).await;
            }
        }
    }

    /// Ends a put that ran out of attempts: a last look tells whether one of them had succeeded after all.
    async fn give_up(
        &self,
        key: &Key,
        condition: &Condition,
        stamp: &Stamp,
        budget: Budget,
        lost: Option<Outage>,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let attempts = budget.attempts();
        let Some(source) = lost else {
            return Err(PutError::Conflict {
                key: key.clone(),
                attempts,
            });
        };
        let last = Retries {
            attempts_max: 1,
            ..self.retries
        };
        let limit_ms = u64::try_from(LAST_LOOK.as_millis())
            .unwrap_or(u64::MAX)
            .min(self.timeouts.attempt_ms);
        let timeouts = Timeouts {
            attempt_ms: limit_ms,
            write_ms: limit_ms,
            ..self.timeouts
        };
        let budget = Budget::write(Instant::now(), &timeouts, last);
        debug!(%key, ?condition, attempts, "put ran out of attempts");
        match self.standing(key, &stamp.nonce, budget, purpose).await {
            Ok(Standing::Ours(etag)) => Ok(etag),
            // Another's object, or none: an attempt of ours may still be on its way, so the answer stays open.
            Ok(Standing::Other | Standing::Absent) | Err(_) => Err(PutError::Unavailable {
                key: key.clone(),
                attempts,
                source,
            }),
        }
    }

    async fn standing(
        &self,
        key: &Key,
        nonce: &str,
        mut budget: Budget,
        purpose: Purpose,
    ) -> Result<Standing, WireError> {
        let full = self.full(key.as_str());
        loop {
            match self
                .attempt(&mut budget, "head", purpose, self.wire.head(&full))
                .await
            {
                Ok(Some(head)) if head.nonce.as_deref() == Some(nonce) => {
                    return Ok(Standing::Ours(head.etag));
                }
                Ok(Some(_)) => return Ok(Standing::Other),
                Ok(None) => return Ok(Standing::Absent),
                Err(error @ WireError::Outage(_)) => {
                    if !self.pause(&budget).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one page as the store gives it.
    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Listed, ListError> {
        let (full_prefix, full_after) = (self.full(prefix), after.map(|after| self.full(after)));
        let mut budget = self.read_budget();
        loop {
            let request = self.wire.list(&full_prefix, full_after.as_deref(), limit);
            match self.attempt(&mut budget, "list", purpose, request).await {
                Ok(listed) => {
                    check_listing(&listed, &full_prefix, full_after.as_deref()).map_err(|what| {
                        ListError::Senseless {
                            prefix: prefix.to_owned(),
                            what,
                        }
                    })?;
                    return Ok(listed);
                }
                Err(WireError::Outage(source)) => {
                    if !self.pause(&budget).await {
                        let attempts = budget.attempts();
                        return Err(ListError::Unavailable {
                            prefix: prefix.to_owned(),
                            attempts,
                            source,
                        });
                    }
                }
                Err(error) => {
                    return Err(ListError::Refused {
                        prefix: prefix.to_owned(),
                        source: refusal(error),
                    });
                }
            }
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        self.put(key, Condition::Absent, body, purpose).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        self.put(key, Condition::Matches(expected.clone()), body, purpose)
            .await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        if let Some(Range { start, end }) = range.clone().filter(Range::is_empty) {
            return Err(GetError::OutOfRange {
                key: key.clone(),
                start,
                end,
                total_bytes: 0,
            });
        }
        let full = self.full(key.as_str());
        let mut budget = self.read_budget();
        loop {
            let request = async { self.wire.get(&full, range.as_ref()).await?.check(range.as_ref()) };
            let error = match self.attempt(&mut budget, "get", purpose, request).await {
                Ok(object) => {
                    self.metrics.received(purpose, object.bytes.len() as u64);
                    return Ok(object);
                }
                Err(error) => error,
            };
            let worth_another = matches!(
                error,
                WireError::Outage(_) | WireError::Damaged(_) | WireError::Conflict
            );
            if !worth_another || !self.pause(&budget).await {
                return Err(get_error(key, range, budget.attempts(), error));
            }
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        let limit = limit.max(1);
        let mut after = after.map(str::to_owned);
        loop {
            let Listed { rows, more } = self.page(prefix, after.as_deref(), limit, purpose).await?;
            let last = rows
                .last()
                .and_then(|row| row.key.strip_prefix(&self.prefix))
                .map(str::to_owned);
            let mut entries = Vec::with_capacity(rows.len());
            for row in rows {
                // Keys that are none of ours, such as the `folder/` objects that consoles make, are passed over.
                let Some(Ok(key)) = row.key.strip_prefix(&self.prefix).map(Key::new) else {
                    continue;
                };
                let (size_bytes, etag, modified) = (row.size_bytes, row.etag, row.modified);
                entries.push(Entry {
                    key,
                    size_bytes,
                    etag,
                    modified,
                });
            }
            // The caller goes on from the last entry, so a page that says `more` has one.
            if !entries.is_empty() || !more {
                return Ok(Page { entries, more });
            }
            after = last;
        }
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        let full = self.full(key.as_str());
        let mut budget = self.write_budget();
        loop {
            match self
                .attempt(&mut budget, "delete", purpose, self.wire.delete(&full))
                .await
            {
                Ok(()) | Err(WireError::NotFound) => return Ok(()),
                Err(WireError::Outage(source)) => {
                    if !self.pause(&budget).await {
                        let attempts = budget.attempts();
                        return Err(DeleteError::Unavailable {
                            key: key.clone(),
                            attempts,
                            source,
                        });
                    }
                }
                Err(WireError::Conflict) if self.pause(&budget).await => {}
                Err(error) => {
                    return Err(DeleteError::Refused {
                        key: key.clone(),
                        source: refusal(error),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
