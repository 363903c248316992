//! `POST /halt`, `DELETE /halt`, `POST /tx`: a replica writes.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use crashsafe::OpenOptions;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as RequestBody;
use lease::Epoch;
use ltx::NodeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Answer, Api, Query, Refused, TEXT, full};
use crate::{
    db::{ApplyError, Incoming},
    halt::{
        ACQUIRE_MAX,
        granting::{self, Asker, GrantError},
        grants::{Bringer, Grant, TxRefused},
        wire::{self, LASTS_MS, RENEWS},
    },
    name::DatabaseName,
    replication::{
        applier::{Drain, Hand, apply_as},
        client::EPOCH,
    },
    store::Slot,
};

fn not_found() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "database not found")
}

fn expired() -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "lease expired")
}

fn name_of(query: &Query) -> Result<DatabaseName, Refused> {
    let name = query.get("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refused::bad("name required"))?;
    name.parse()
        .map_err(|error: crate::name::NameError| Refused::bad(error.to_string()))
}

fn number(query: &Query, parameter: &str) -> Result<i64, Refused> {
    let text = query.get(parameter).unwrap_or("");
    text.parse()
        .map_err(|_| Refused::bad(format!("invalid {parameter}: \"{text}\"")))
}

impl Api {
    /// Who asks, if he says so: never this node itself, and nobody who knows of a later primary.
    fn peer(&self, headers: &HeaderMap) -> Result<Option<NodeId>, Refused> {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let peer: Option<NodeId> = said("Litefs-Id").and_then(|id| id.parse().ok());
        if peer == Some(self.store.node().id) {
            return Err(Refused::bad("cannot connect to self"));
        }
        let seen = said(EPOCH).and_then(|epoch| epoch.parse().ok()).map(Epoch);
        let ours = self.store.node().primacy.epoch().ok_or_else(expired)?;
        if seen.is_some_and(|seen| seen > ours) {
            return Err(expired());
        }
        Ok(peer)
    }
}

/// Grants the write lock of a database, or renews it.
pub(super) async fn acquire(api: Arc<Api>, query: &Query, request: &Request<RequestBody>) -> Answer {
    let (name, id) = (name_of(query)?, number(query, "id")?);
    let peer = api.peer(request.headers())?;
    let lasts = api.halt_lasts;
    if id == 0 {
        return Err(internal("acquire halt lock: id required"));
    }
    if request.headers().contains_key(RENEWS) {
        let slot = api.store.get(&name).ok_or_else(not_found)?;
        let renewed = slot.grants().renew(Instant::now().into_std(), id, lasts);
        return renewed
            .map(|grant| answer(&api, &grant))
            .ok_or_else(|| internal(TxRefused::NotHeld.to_string()));
    }
    let until = Instant::now() + ACQUIRE_MAX;
    // Who goes away before he has it does not get it.
    let waits = CancellationToken::new();
    let (gone, _waits) = (waits.clone(), waits.drop_guard());
    let owned = Arc::clone(&api);
    let granting = tokio::task::spawn_blocking(move || {
        let api = owned;
        let slot = api
            .store
            .get_or_create(&name)
            .map_err(|error| Refused::internal(&error))?;
        let give_up =
            || gone.is_cancelled() || Instant::now() >= until || api.stopping.load(Ordering::Acquire);
        let granted = granting::grant(&api.store, &slot, Asker { id, peer, lasts }, &give_up);
        let grant = granted.map_err(|error| match error {
            GrantError::NotPrimary => expired(),
            GrantError::TimedOut => internal(error.to_string()),
        })?;
        if gone.is_cancelled() {
            release_now(&api, &slot, id);
        }
        Ok((slot, grant))
    });
    let granted = granting
        .await
        .unwrap_or_else(|error| Err(Refused::internal(&error)));
    let (slot, grant) = granted?;
    granting::watch(Arc::clone(&api.store), slot, id, api.stop.clone());
    Ok(answer(&api, &grant))
}

fn internal(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn answer(api: &Api, grant: &Grant) -> Response<crate::http_client::Body> {
    let left = grant.until.saturating_duration_since(Instant::now().into_std());
    let left_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
    let wall_ms = (api.store.node().wall_clock_ms)().saturating_add(left_ms);
    let said = wire::Answer {
        id: grant.id,
        pos: grant.pos,
        expires: daemon::wall_clock::text_of_ms(wall_ms),
    };
    let mut response = Response::new(full(said.encode()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    let lasts_ms = u64::try_from(api.halt_lasts.as_millis()).unwrap_or(u64::MAX);
    headers.insert(LASTS_MS, HeaderValue::from(lasts_ms));
    response
}

/// Takes the write lock of a database back; also where it is not held.
pub(super) async fn release(api: Arc<Api>, query: &Query) -> Answer {
    let (name, id) = (name_of(query)?, number(query, "id")?);
    let slot = api.store.get(&name).ok_or_else(not_found)?;
    let released = tokio::task::spawn_blocking(move || release_now(&api, &slot, id));
    released.await.map_err(|error| Refused::internal(&error))?;
    Ok(Response::new(full("")))
}

/// Ends a lock. Writers go on at once, or behind who reads a log that is put away first.
fn release_now(api: &Arc<Api>, slot: &Arc<Slot>, id: i64) {
    let released = slot.grants().release(id);
    if released {
        tracing::info!(db = %slot.name(), id, "halt lock given back");
        let (store, slot) = (Arc::clone(&api.store), Arc::clone(slot));
        let letting = std::thread::Builder::new()
            .name("halt".to_owned())
            .spawn(move || granting::let_go(&store, &slot));
        if let Err(error) = letting {
            tracing::error!(%error, "writers stay out");
        }
    }
}

/// Takes a transaction of who holds the write lock.
pub(super) async fn take(api: Arc<Api>, query: &Query, request: Request<RequestBody>) -> Answer {
    let name = name_of(query)?;
    let id = number(query, "lockID").ok();
    let peer = api.peer(request.headers())?;
    let slot = api.store.get(&name).ok_or_else(not_found)?;
    let held = id.and_then(|id| slot.grants().until(id));
    if held.is_none() {
        return Err(internal(TxRefused::NotHeld.to_string()));
    }
    let spool = api.store.incoming();
    let taken = match receive(&api, request.into_body(), &spool).await {
        Ok(()) => {
            let (api, spool) = (Arc::clone(&api), spool.clone());
            let taking = tokio::task::spawn_blocking(move || apply(&api, &slot, spool, id, peer));
            taking
                .await
                .unwrap_or_else(|error| Err(Refused::internal(&error)))
        }
        Err(error) => Err(Refused::internal(&error)),
    };
    if taken.is_err() {
        let _swept_at_the_next_start = api.store.node().disk.remove_file("tx", &spool);
    }
    taken.map(|()| Response::new(full("")))
}

async fn receive(api: &Api, mut body: RequestBody, spool: &std::path::Path) -> io::Result<()> {
    let disk = &api.store.node().disk;
    let file = disk.open("tx", spool, OpenOptions::CREATE_NEW)?;
    let mut offset = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() {
            file.write_at(&bytes, offset)?;
            offset += bytes.len() as u64;
        }
    }
    tokio::task::spawn_blocking(move || file.sync_data()).await?
}

fn apply(
    api: &Api,
    slot: &Slot,
    spool: std::path::PathBuf,
    id: Option<i64>,
    peer: Option<NodeId>,
) -> Result<(), Refused> {
    let (store, disk) = (&api.store, &api.store.node().disk);
    let incoming = Incoming::read(&**disk, spool)
        .map_err(|error| internal(format!("ltx validation error: {}", crate::store::chain(&error))))?;
    let header = *incoming.header();
    let check = || {
        let bringer = Bringer {
            id,
            peer,
            epoch: store.node().primacy.epoch(),
            header: &header,
        };
        slot.grants().check(Instant::now().into_std(), bringer)
    };
    let refused = |why: TxRefused| match why {
        TxRefused::OtherEpoch => expired(),
        TxRefused::NotHeld | TxRefused::Expired | TxRefused::Several { .. } => {
            internal(format!("write ltx file: {why}"))
        }
    };
    let epoch = check().map_err(refused)?;
    let until = Instant::now() + ACQUIRE_MAX;
    let give_up = || Instant::now() >= until || api.stopping.load(Ordering::Acquire) || store.is_stopped();
    let lasts = || check().is_ok();
    let hand = Hand::Halted(&lasts);
    match apply_as(hand, store, slot, &give_up, incoming, &mut Drain::default()) {
        Ok(()) if store.node().primacy.lasts(epoch) => Ok(()),
        // Others may go on without it.
        Ok(()) => Err(expired()),
        Err(error @ ApplyError::GivenUp) => Err(match check() {
            Ok(_) => Refused::new(StatusCode::CONFLICT, format!("cannot apply ltx: {error}")),
            Err(why) => refused(why),
        }),
        Err(error @ ApplyError::Mismatch { .. }) => Err(internal(format!(
            "write ltx file: non-sequential header minimum txid {}, or pre-apply checksum mismatch: {error}",
            header.min_txid
        ))),
        Err(error) => Err(internal(format!(
            "cannot apply ltx: {}",
            crate::store::chain(&error)
        ))),
    }
}
