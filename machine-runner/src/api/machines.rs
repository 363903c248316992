//! Machines: list, create, show, update, destroy, start, stop, restart, suspend, signal, cordon, history.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiJson, ApiQuery};
use http::HeaderMap;
use serde_json::{Value, json};

use super::requests::{
    ListQuery, MachineBody, Pairs, SignalBody, StopBody, signal as read_signal, timeout_ms,
};
use super::wire::{self, Extras};
use super::{NETWORK_HEADER, Shared, allow, ask, catalog_refusal, edit, find};
use crate::go_duration;
use crate::lease::{self, Acquire};
use crate::lifecycle::Request;
use crate::machine_config::MachineConfig;
use crate::record::{Event, MachineRecord};
use crate::runner::create::NewMachine;
use crate::runner::{Handle, Runner, StopArgs};

/// Events in a machine's own answer.
const EVENTS_SHOWN: u32 = 20;
/// Events that the events call gives at most.
const EVENTS_MAX: u32 = 50;

type Ids = Path<(String, String)>;
type Answer = Result<Json<Value>, ApiError>;
type Query = ApiQuery<Vec<(String, String)>>;

pub(super) async fn health(State(runner): Shared) -> Json<Value> {
    Json(json!({"ok": true, "machines": runner.machines().len(), "accelerator": runner.verdict.accelerator}))
}

pub(super) async fn doctor(State(runner): Shared) -> Json<Value> {
    Json(crate::doctor::report(&runner.config, &runner.verdict))
}

pub(super) async fn drain(State(runner): Shared) -> Answer {
    Ok(Json(json!({"stopped": runner.drain().await?})))
}

async fn events_of(runner: &Runner, record: &MachineRecord, limit: u32) -> Result<Vec<Event>, ApiError> {
    runner
        .catalog
        .events(&record.id, limit)
        .await
        .map_err(|error| catalog_refusal(&error))
}

async fn shown(runner: &Runner, handle: &Handle) -> Answer {
    let record = handle.view().record.clone();
    let events = events_of(runner, &record, EVENTS_SHOWN).await?;
    Ok(Json(wire::machine(
        &record,
        Extras {
            events,
            ..Extras::default()
        },
    )))
}

async fn listed(runner: &Runner, records: Vec<MachineRecord>, query: &ListQuery) -> Answer {
    if query.summary {
        return Ok(Json(records.iter().map(wire::summary).collect()));
    }
    let ids = records.iter().map(|record| record.id.clone()).collect();
    let events = runner
        .catalog
        .events_of(ids, EVENTS_SHOWN)
        .await
        .map_err(|error| catalog_refusal(&error))?;
    let mut machines = Vec::new();
    for (record, events) in records.iter().zip(events) {
        let lease = match query.include_leases {
            true => live_lease(runner, record).await?,
            false => None,
        };
        machines.push(wire::machine(
            record,
            Extras {
                events,
                lease,
                nonce: None,
            },
        ));
    }
    Ok(Json(Value::Array(machines)))
}

async fn live_lease(runner: &Runner, record: &MachineRecord) -> Result<Option<lease::Lease>, ApiError> {
    let held = runner
        .catalog
        .lease(&record.id)
        .await
        .map_err(|error| catalog_refusal(&error))?;
    Ok(lease::live(held, daemon::wall_clock::now().as_second()))
}

pub(super) async fn list(State(runner): Shared, Path(app): Path<String>, ApiQuery(pairs): Query) -> Answer {
    let query = ListQuery::read(&Pairs(pairs))?;
    let views = runner.machines().into_iter().map(|handle| handle.view());
    let records = views.filter(|view| view.record.app == app && wire::passes(&view.record, &query));
    listed(&runner, records.map(|view| view.record.clone()).collect(), &query).await
}

/// All machines of this host, for the front.
pub(super) async fn list_all(State(runner): Shared, ApiQuery(pairs): Query) -> Answer {
    let query = ListQuery::read(&Pairs(pairs))?;
    let views = runner.machines().into_iter().map(|handle| handle.view());
    let records = views.filter(|view| wire::passes(&view.record, &query));
    listed(&runner, records.map(|view| view.record.clone()).collect(), &query).await
}

pub(super) async fn create(
    State(runner): Shared,
    Path(app): Path<String>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<MachineBody>,
) -> Answer {
    let body = body.checked()?;
    let lease_ttl = match body.lease_ttl.unwrap_or(0) {
        0 => None,
        ttl => Some(u64::try_from(ttl).map_err(|_| ApiError::bad_request("lease_ttl must not be negative"))?),
    };
    let hangar = body.hangar.unwrap_or_default();
    let header = headers
        .get(NETWORK_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let network = hangar
        .network
        .or(header)
        .filter(|network| !network.is_empty())
        .unwrap_or_else(|| app.clone());
    let new = NewMachine {
        app,
        org: hangar.org.unwrap_or_else(|| "personal".to_owned()),
        network,
        name: body.name,
        region: body.region,
        config: body.config,
        secrets: hangar.secrets.unwrap_or_default(),
    };
    let handle = runner.create(new).await?;
    let record = handle.view().record.clone();
    let nonce = match lease_ttl {
        Some(ttl_seconds) => Some(take_lease(&runner, &record, ttl_seconds).await?),
        None => None,
    };
    let standby = MachineConfig::parse(&record.config).is_ok_and(|config| !config.standbys.is_empty());
    if !body.skip_launch && !standby {
        ask(&handle, Request::Start, StopArgs::default(), None).await?;
    }
    let record = handle.view().record.clone();
    let events = events_of(&runner, &record, EVENTS_SHOWN).await?;
    Ok(Json(wire::machine(
        &record,
        Extras {
            events,
            nonce,
            lease: None,
        },
    )))
}

async fn take_lease(runner: &Runner, record: &MachineRecord, ttl_seconds: u64) -> Result<String, ApiError> {
    let (now, version) = (daemon::wall_clock::now().as_second(), record.instance_id.clone());
    let granted = runner
        .catalog
        .change_lease::<super::LeaseCallError, _>(&record.id, move |held| {
            let fresh_nonce = daemon::random::hex(8);
            let ask = Acquire {
                nonce: None,
                ttl_seconds,
                owner: "",
                description: "",
                version: &version,
                fresh_nonce,
            };
            Ok(Some(lease::acquire(held, ask, now)?))
        })
        .await?;
    Ok(granted.map(|lease| lease.nonce).unwrap_or_default())
}

pub(super) async fn show(State(runner): Shared, Path((app, id)): Ids, ApiQuery(pairs): Query) -> Answer {
    let handle = find(&runner, &app, &id)?;
    if !Pairs(pairs).flag("include_leases") {
        return shown(&runner, &handle).await;
    }
    let record = handle.view().record.clone();
    let events = events_of(&runner, &record, EVENTS_SHOWN).await?;
    let lease = live_lease(&runner, &record).await?;
    Ok(Json(wire::machine(
        &record,
        Extras {
            events,
            lease,
            nonce: None,
        },
    )))
}

pub(super) async fn update(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiJson(body): ApiJson<MachineBody>,
) -> Answer {
    let handle = find(&runner, &app, &id)?;
    let body = body.checked()?;
    allow(&runner, &handle, &headers).await?;
    let record = handle.view().record.clone();
    if body
        .current_version
        .as_ref()
        .is_some_and(|version| !version.is_empty() && *version != record.instance_id)
    {
        let sentence = format!(
            "failed_precondition: the machine's version is {}, not the given one",
            record.instance_id
        );
        return Err(ApiError::precondition_failed(sentence));
    }
    for (field, given, has) in [
        ("name", &body.name, &record.name),
        ("region", &body.region, &record.region),
    ] {
        if given
            .as_ref()
            .is_some_and(|given| !given.is_empty() && given != has)
        {
            return Err(ApiError::unprocessable(format!(
                "{field} of a machine cannot be changed, it is {has:?}"
            )));
        }
    }
    let secrets = body.hangar.and_then(|hangar| hangar.secrets);
    let update = runner.check_update(&record, body.config, secrets).await?;
    ask(
        &handle,
        Request::Update {
            launch: !body.skip_launch,
        },
        StopArgs::default(),
        Some(update),
    )
    .await?;
    shown(&runner, &handle).await
}

pub(super) async fn destroy(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiQuery(pairs): Query,
) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    let pairs = Pairs(pairs);
    let force = pairs.flag("force") || pairs.flag("kill");
    ask(&handle, Request::Destroy { force }, StopArgs::default(), None).await?;
    Ok(Json(json!({"ok": true})))
}

pub(super) async fn start(State(runner): Shared, Path((app, id)): Ids, headers: HeaderMap) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    let outcome = ask(&handle, Request::Start, StopArgs::default(), None).await?;
    Ok(Json(
        json!({"previous_state": outcome.previous, "migrated": false, "new_host": ""}),
    ))
}

pub(super) async fn stop(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Option<StopBody>>,
) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    ask(&handle, Request::Stop, body.unwrap_or_default().args()?, None).await?;
    Ok(Json(json!({"ok": true})))
}

pub(super) async fn restart(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiQuery(pairs): Query,
) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    let pairs = Pairs(pairs);
    let timeout = match pairs.get("timeout").filter(|text| !text.is_empty()) {
        Some(text) => timeout_ms(go_duration::from_query(text), text)?,
        None => None,
    };
    let signal = pairs
        .get("signal")
        .map_or(Ok(None), |text| read_signal(&json!(text)))?;
    let stop = StopArgs {
        signal,
        timeout_ms: timeout,
        kill: pairs.flag("force_stop"),
    };
    ask(&handle, Request::Restart, stop, None).await?;
    Ok(Json(json!({"ok": true})))
}

pub(super) async fn suspend(State(runner): Shared, Path((app, id)): Ids, headers: HeaderMap) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    ask(&handle, Request::Suspend, StopArgs::default(), None).await?;
    Ok(Json(json!({"ok": true})))
}

pub(super) async fn signal(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiJson(body): ApiJson<SignalBody>,
) -> Answer {
    let handle = find(&runner, &app, &id)?;
    allow(&runner, &handle, &headers).await?;
    let number = body.signal.as_ref().map_or(Ok(None), read_signal)?;
    let number =
        number.ok_or_else(|| ApiError::bad_request("signal is required, e.g. {\"signal\": \"SIGTERM\"}"))?;
    ask(&handle, Request::Talk, StopArgs::default(), None).await?;
    runner.shim(&handle.view().record.id).signal(number).await?;
    Ok(Json(json!({"ok": true})))
}

async fn set_cordoned(
    runner: &Arc<Runner>,
    (app, id): (String, String),
    headers: &HeaderMap,
    on: bool,
) -> Answer {
    let handle = find(runner, &app, &id)?;
    allow(runner, &handle, headers).await?;
    let change = move |record: &mut MachineRecord| {
        record.cordoned = on;
        Ok(())
    };
    edit(&handle, change).await?;
    Ok(Json(json!({"ok": true})))
}

pub(super) async fn cordon(State(runner): Shared, Path(ids): Ids, headers: HeaderMap) -> Answer {
    set_cordoned(&runner, ids, &headers, true).await
}

pub(super) async fn uncordon(State(runner): Shared, Path(ids): Ids, headers: HeaderMap) -> Answer {
    set_cordoned(&runner, ids, &headers, false).await
}

pub(super) async fn events(State(runner): Shared, Path((app, id)): Ids, ApiQuery(pairs): Query) -> Answer {
    let handle = find(&runner, &app, &id)?;
    let pairs = Pairs(pairs);
    let limit = match pairs.get("limit") {
        None => EVENTS_SHOWN,
        Some(text) => text
            .parse::<u32>()
            .ok()
            .filter(|limit| (1..=EVENTS_MAX).contains(limit))
            .ok_or_else(|| ApiError::bad_request(format!("limit must be 1 to {EVENTS_MAX}, got {text:?}")))?,
    };
    let events = events_of(&runner, &handle.view().record, limit).await?;
    Ok(Json(json!(events)))
}

pub(super) async fn versions(State(runner): Shared, Path((app, id)): Ids) -> Answer {
    let handle = find(&runner, &app, &id)?;
    let id = handle.view().record.id.clone();
    let versions = runner
        .catalog
        .versions(&id)
        .await
        .map_err(|error| catalog_refusal(&error))?;
    Ok(Json(json!(versions)))
}
