use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::log::{Log, LogError};
use crate::record::{OperationId, Record};

/// A log in memory that applies changes to a value of the product, for simulations and tests.
pub struct MemoryLog<C, S> {
    inner: Mutex<Inner<S>>,
    apply: fn(&mut S, C),
}

struct Inner<S> {
    records: Vec<Record>,
    state: S,
}

impl<C, S: fmt::Debug> fmt::Debug for MemoryLog<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("MemoryLog")
            .field("records", &inner.records)
            .field("state", &inner.state)
            .finish()
    }
}

impl<C, S> MemoryLog<C, S> {
    /// Makes an empty log around `state`; `apply` is the product's change function.
    pub fn new(state: S, apply: fn(&mut S, C)) -> Self {
        Self {
            inner: Mutex::new(Inner {
                records: Vec::new(),
                state,
            }),
            apply,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the product's value.
    pub fn with_state<T>(&self, f: impl FnOnce(&S) -> T) -> T {
        f(&self.lock().state)
    }

    /// Returns a record by id.
    pub fn record(&self, id: &OperationId) -> Option<Record> {
        self.lock().records.iter().find(|r| &r.id == id).cloned()
    }
}

#[async_trait]
impl<C: Send + 'static, S: Send + 'static> Log<C> for MemoryLog<C, S> {
    async fn begin(&self, record: &Record, change: C) -> Result<(), LogError> {
        let mut inner = self.lock();
        if let Some(other) = inner
            .records
            .iter()
            .find(|r| r.subject == record.subject && !r.status.ended())
        {
            return Err(LogError::Busy {
                subject: record.subject.clone(),
                running: other.id.clone(),
            });
        }
        inner.records.push(record.clone());
        (self.apply)(&mut inner.state, change);
        Ok(())
    }

    async fn advance(&self, record: &Record, change: C) -> Result<(), LogError> {
        let mut inner = self.lock();
        if let Some(kept) = inner.records.iter_mut().find(|r| r.id == record.id) {
            if let (Some(why), None) = (&kept.cancelled, &record.cancelled) {
                return Err(LogError::Cancelled { why: why.clone() });
            }
            *kept = record.clone();
        }
        (self.apply)(&mut inner.state, change);
        Ok(())
    }

    async fn cancel(&self, id: &OperationId, why: &str, change: C) -> Result<bool, LogError> {
        let mut inner = self.lock();
        let Some(kept) = inner.records.iter_mut().find(|r| &r.id == id) else {
            return Ok(false);
        };
        if kept.status.ended() {
            return Ok(false);
        }
        kept.cancelled.get_or_insert_with(|| why.to_owned());
        (self.apply)(&mut inner.state, change);
        Ok(true)
    }

    async fn pending(&self) -> Result<Vec<Record>, LogError> {
        Ok(self
            .lock()
            .records
            .iter()
            .filter(|r| !r.status.ended())
            .cloned()
            .collect())
    }
}
