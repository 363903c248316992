//! The router against daemons that run in the test and speak their contracts.

use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use daemon::wall_clock::ManualClock;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::RawConfig;
use crate::token;

mod apps;
mod auth;
mod errors;
mod machines;
mod volumes;

const ROOT: &str = "root-token";

/// What the two daemons of the test hold and have seen.
#[derive(Debug, Default)]
struct Fakes {
    volumes: Mutex<Vec<Value>>,
    machines: Mutex<Vec<Value>>,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

struct World {
    router: Router,
    api: Api,
    fakes: Arc<Fakes>,
    _directory: tempfile::TempDir,
    daemons: Vec<tokio::task::JoinHandle<()>>,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let raw: RawConfig = toml::from_str(&format!(
            "socket = '{0}/f.sock'\ncatalog = '{0}/c.db'\ntoken_file = '{0}/t'\nvolumed_socket = '{0}/v.sock'\nmachine_runner_socket = '{0}/m.sock'\nbody_bytes_max = 65536",
            directory.path().display()
        ))
        .unwrap();
        let config = Config::try_from(raw).unwrap();
        let fakes = Arc::new(Fakes::default());
        let daemons = vec![
            listen(&config.volumed_socket, volumed(fakes.clone())),
            listen(&config.machine_runner_socket, machine_runner(fakes.clone())),
        ];
        let store = Store::open(&config.catalog).unwrap();
        let clock = ManualClock::new("2026-01-31T12:00:00Z".parse().unwrap());
        store
            .set_root_token(token::hash(ROOT), clock.now())
            .await
            .unwrap();
        let api = Api::new(config, store, Arc::new(clock)).await.unwrap();
        Self {
            router: router(api.clone()),
            api,
            fakes,
            _directory: directory,
            daemons,
        }
    }

    async fn with_app(name: &str) -> Self {
        let world = Self::start().await;
        world.make_app(name).await;
        world
    }

    async fn make_app(&self, name: &str) {
        let body = json!({"name": name, "org_slug": "personal"});
        let (status, answer) = self.call(Method::POST, "/v1/apps", Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.raw(
            method,
            path,
            &[("authorization", "Bearer root-token")],
            body.into_bytes(),
        )
        .await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::from(body)).unwrap())
            .await
            .unwrap();
        assert!(
            response.headers().contains_key("fly-request-id"),
            "no request id on {path}"
        );
        read(response).await
    }

    fn seen(&self, method: &Method, path: &str) -> Vec<Seen> {
        let seen = self.fakes.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.method == *method && seen.path == path)
            .cloned()
            .collect()
    }

    fn add_volume(&self, id: &str, app: &str) {
        self.fakes.volumes.lock().unwrap().push(volume(id, app));
    }

    fn add_machine(&self, id: &str, app: &str, state: &str) {
        self.fakes
            .machines
            .lock()
            .unwrap()
            .push(json!({"id": id, "app": app, "state": state, "region": "local"}));
    }

    async fn kill_daemons(&mut self) {
        for task in self.daemons.drain(..) {
            task.abort();
            let _ended = task.await;
        }
    }
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("status {status}, not JSON: {bytes:?}"))
    };
    if status >= 400 {
        let sentence = body["error"].as_str().unwrap_or_default();
        assert!(sentence.len() > 5, "an error without a sentence: {status} {body}");
    }
    (status, body)
}

fn listen(socket: &std::path::Path, router: Router) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    daemon::spawn("fake-daemon", async move {
        axum::serve(listener, router).await.unwrap();
    })
}

fn volume(id: &str, app: &str) -> Value {
    json!({"id": id, "app": app, "name": "data", "state": "created", "size_gb": 1, "region": "local",
           "attached_machine_id": null, "created_at": "2026-01-01T00:00:00Z"})
}

fn refused(status: StatusCode, error: &str) -> Response {
    daemon::ApiError::new(status, error).into_response()
}

/// Keeps every request, then answers as the contract says.
fn recording(fakes: Arc<Fakes>, router: Router<Arc<Fakes>>) -> Router {
    let keeper = fakes.clone();
    router.with_state(fakes).layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let keeper = keeper.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                keeper.seen.lock().unwrap().push(Seen {
                    method: parts.method.clone(),
                    path: parts.uri.path().to_owned(),
                    headers: parts.headers.clone(),
                    body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                });
                next.run(Request::from_parts(parts, Body::from(bytes))).await
            }
        },
    ))
}

fn volumed(fakes: Arc<Fakes>) -> Router {
    type S = State<Arc<Fakes>>;
    let find = |fakes: &Fakes, id: &str| {
        fakes
            .volumes
            .lock()
            .unwrap()
            .iter()
            .find(|v| v["id"] == id)
            .cloned()
    };
    let show = move |State(fakes): S, Path(id): Path<String>| async move {
        find(&fakes, &id).map_or_else(
            || refused(StatusCode::NOT_FOUND, "volume not found"),
            |v| axum::Json(v).into_response(),
        )
    };
    let remove = move |State(fakes): S, Path(id): Path<String>| async move {
        let mut volumes = fakes.volumes.lock().unwrap();
        let volume = volumes.iter_mut().find(|v| v["id"] == id.as_str()).unwrap();
        if !volume["attached_machine_id"].is_null() {
            return refused(StatusCode::PRECONDITION_FAILED, "volume is attached");
        }
        volume["state"] = json!("scheduling_destroy");
        axum::Json(volume.clone()).into_response()
    };
    let list = |State(fakes): S, Query(query): Query<Vec<(String, String)>>| async move {
        let of = |name: &str| {
            query
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let all = of("include_destroyed").is_some_and(|value| value == "true");
        let volumes = fakes.volumes.lock().unwrap();
        let wanted = volumes
            .iter()
            .filter(|v| of("app").is_none_or(|app| v["app"] == app.as_str()));
        axum::Json(
            wanted
                .filter(|v| all || v["state"] == "created")
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    let create = |State(fakes): S, axum::Json(body): axum::Json<Value>| async move {
        if body["size_gb"].as_i64().is_some_and(|size| size > 500) {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "size_gb must be 1 to 500");
        }
        let mut made = volume("vol_new", body["app"].as_str().unwrap());
        made["size_gb"] = body["size_gb"].clone();
        fakes.volumes.lock().unwrap().push(made.clone());
        axum::Json(made).into_response()
    };
    let extend = move |State(fakes): S, Path(id): Path<String>, axum::Json(body): axum::Json<Value>| async move {
        let mut volume = find(&fakes, &id).unwrap();
        volume["size_gb"] = body["size_gb"].clone();
        axum::Json(json!({"volume": volume, "needs_restart": false}))
    };
    let recover = move |State(fakes): S, Path(id): Path<String>| async move {
        let mut volume = find(&fakes, &id).unwrap();
        volume["state"] = json!("recovering");
        axum::Json(volume)
    };
    let router = Router::new()
        .route("/v1/volumes", get(list).post(create))
        .route("/v1/volumes/{id}", get(show).delete(remove).put(show))
        .route("/v1/volumes/{id}/extend", put(extend))
        .route("/v1/volumes/{id}/recover", post(recover))
        .route(
            "/v1/volumes/{id}/snapshots",
            get(async || axum::Json(json!([]))).post(async || "{\"id\":\"vs_1\"}"),
        )
        .route(
            "/v1/snapshots",
            get(async || axum::Json(json!([{"id": "vs_1", "app": "gone"}]))),
        )
        .route(
            "/v1/key/export",
            post(async || axum::Json(json!({"id": "k", "text": "hangar-key-1-x"}))),
        );
    recording(fakes, router)
}

fn machine_runner(fakes: Arc<Fakes>) -> Router {
    type S = State<Arc<Fakes>>;
    let list = |State(fakes): S, Path(app): Path<String>| async move {
        let machines = fakes.machines.lock().unwrap();
        axum::Json(
            machines
                .iter()
                .filter(|m| m["app"] == app.as_str() && m["state"] != "destroyed")
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    let create = |State(fakes): S,
                  Path(path): Path<Vec<(String, String)>>,
                  axum::Json(body): axum::Json<Value>| async move {
        let made =
            json!({"id": "d4a192e0dbda1e", "app": path[0].1, "state": "created", "config": body["config"]});
        fakes.machines.lock().unwrap().push(made.clone());
        axum::Json(made)
    };
    let show = |State(fakes): S, Path((app, id)): Path<(String, String)>| async move {
        let machines = fakes.machines.lock().unwrap();
        machines
            .iter()
            .find(|m| m["id"] == id.as_str() && m["app"] == app.as_str())
            .map_or_else(
                || refused(StatusCode::NOT_FOUND, "machine not found"),
                |m| axum::Json(m.clone()).into_response(),
            )
    };
    let destroy = |State(fakes): S, Path((_, id)): Path<(String, String)>, headers: HeaderMap| async move {
        let mut machines = fakes.machines.lock().unwrap();
        let Some(machine) = machines.iter_mut().find(|m| m["id"] == id.as_str()) else {
            return refused(StatusCode::NOT_FOUND, "machine not found");
        };
        let nonce = headers
            .get("fly-machine-lease-nonce")
            .and_then(|value| value.to_str().ok());
        if machine["lease"]["nonce"].as_str() != nonce {
            return refused(StatusCode::CONFLICT, "machine is currently leased");
        }
        machine["state"] = json!("destroyed");
        for volume in fakes.volumes.lock().unwrap().iter_mut() {
            if volume["attached_machine_id"] == id.as_str() {
                volume["attached_machine_id"] = Value::Null;
            }
        }
        axum::Json(json!({"ok": true})).into_response()
    };
    let lease = |State(fakes): S, Path((_, id)): Path<(String, String)>| async move {
        let machines = fakes.machines.lock().unwrap();
        let machine = machines.iter().find(|m| m["id"] == id.as_str());
        axum::Json(json!({"status": "success", "data": machine.map(|m| m["lease"].clone())}))
    };
    let ok = async || axum::Json(json!({"ok": true}));
    let wait = async |Query(query): Query<Vec<(String, String)>>| {
        assert!(
            query.iter().any(|(key, _)| key == "state"),
            "the query is passed on"
        );
        axum::Json(json!({"ok": true}))
    };
    let one = "/v1/apps/{app}/machines/{id}";
    let router = Router::new()
        .route("/v1/apps/{app}/machines", get(list).post(create))
        .route(one, get(show).post(create).delete(destroy))
        .route(&format!("{one}/wait"), get(wait))
        .route(&format!("{one}/start"), post(ok))
        .route(
            &format!("{one}/stop"),
            post(async || (StatusCode::BAD_GATEWAY, "no JSON at all")),
        )
        .route(&format!("{one}/lease"), get(lease))
        .route(
            &format!("{one}/logs"),
            get(async || "{\"message\":\"a\"}\n{\"message\":\"b\"}\n"),
        )
        .route(
            "/v1/images/{*image}",
            axum::routing::delete(async |Path(image): Path<String>| axum::Json(json!({"image": image}))),
        )
        .route("/v1/images", get(async || axum::Json(json!([]))));
    recording(fakes, router)
}
