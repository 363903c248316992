//! The program itself against an API that runs in the test: words, tables, JSON, exit codes.
#![allow(clippy::unwrap_used)]

#[path = "cli/scripted.rs"]
mod scripted;

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::StatusCode;
use serde_json::{Value, json};

type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// An API and a way to run the program against it.
struct World {
    base: String,
    seen: Seen,
}

/// How one run of the program ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    words: String,
}

impl World {
    async fn start() -> Self {
        let seen = Seen::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = api(seen.clone());
        drop(daemon::spawn("fake-flaps", async move {
            axum::serve(listener, router).await
        }));
        Self { base, seen }
    }

    async fn run(&self, words: &[&str]) -> Ran {
        run_with(
            words,
            &[
                ("HANGAR_ENDPOINT", self.base.as_str()),
                ("FLY_API_TOKEN", "good"),
                ("FLY_APP", "a1"),
            ],
        )
        .await
    }

    fn body_of(&self, call: &str) -> Value {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .rev()
            .find(|(name, _)| name == call)
            .unwrap_or_else(|| panic!("{call} not in {seen:?}"))
            .1
            .clone()
    }
}

async fn run_with(words: &[&str], variables: &[(&str, &str)]) -> Ran {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(words)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        words: text(output.stderr),
    }
}

fn volume(id: &str, state: &str) -> Value {
    json!({"id": id, "name": "data", "state": state, "size_gb": 3, "region": "local", "zone": "0a01", "encrypted": true,
        "attached_machine_id": null, "created_at": "2026-01-31T12:34:56Z", "snapshot_retention": 5,
        "auto_backup_enabled": true, "host_status": "ok"})
}

fn machine(state: &str) -> Value {
    json!({"id": "m1", "name": "web", "state": state, "region": "local", "instance_id": "01J", "private_ip": "fdaa:0:1:2:3:4:5:6",
        "config": {"image": "demo", "env": {"A": "1"}, "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256}},
        "created_at": "2026-01-31T12:34:56Z", "updated_at": "2026-01-31T12:34:56Z", "events": [], "checks": []})
}

fn refused(status: StatusCode, error: &str) -> Response {
    (
        status,
        [("fly-request-id", "R-1")],
        axum::Json(json!({"error": error})),
    )
        .into_response()
}

fn api(seen: Seen) -> Router {
    let one = "/v1/apps/a1/machines/m1";
    let exec = |axum::Json(body): axum::Json<Value>| async move {
        let code = if body["cmd"] == "false" { 1 } else { 0 };
        axum::Json(json!({"exit_code": code, "stdout": "hi\n", "stderr": "warn\n"}))
    };
    let show = |Path(id): Path<String>| async move {
        match id.as_str() {
            "vol_1" => axum::Json(volume("vol_1", "created")).into_response(),
            "vol_busy" => refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "volumed is not running; try again",
            ),
            _ => refused(StatusCode::NOT_FOUND, "volume not found"),
        }
    };
    let extend = async |axum::Json(body): axum::Json<Value>| {
        let mut volume = volume("vol_1", "created");
        volume["size_gb"] = body["size_gb"].clone();
        axum::Json(json!({"volume": volume, "needs_restart": false}))
    };
    let import = "{\"step\":\"unpack\",\"layer\":0,\"layers\":1,\"bytes\":1}\n{\"step\":\"result\",\"images\":[{\"digest\":\"sha256:ab\",\"names\":[\"x:1\"]}]}\n";
    let log = "{\"timestamp\":\"T\",\"stream\":\"stdout\",\"message\":\"one\"}\n{\"timestamp\":\"T\",\"stream\":\"stderr\",\"message\":\"two\"}";
    Router::new()
        .route("/v1/apps", get(async || axum::Json(json!({"total_apps": 1, "apps": [{"name": "a1", "status": "pending", "network": "default", "organization": {"slug": "personal"}, "machine_count": 0, "volume_count": 2}]}))).post(async |axum::Json(body): axum::Json<Value>| {
            if body["name"] == "taken" { return refused(StatusCode::UNPROCESSABLE_ENTITY, "name \"taken\" has already been taken; choose another"); }
            (StatusCode::CREATED, axum::Json(json!({"id": body["name"], "name": body["name"]}))).into_response()
        }))
        .route("/v1/apps/a1", delete(async || StatusCode::ACCEPTED))
        .route("/v1/apps/a1/volumes", get(async || axum::Json(json!([volume("vol_1", "created"), volume("vol_2", "pending_destroy")]))).post(async || axum::Json(volume("vol_3", "creating"))))
        .route("/v1/apps/a1/volumes/{id}", get(show).delete(async || axum::Json(volume("vol_1", "scheduling_destroy"))))
        .route("/v1/apps/a1/volumes/vol_1/extend", put(extend))
        .route("/v1/apps/a1/volumes/vol_1/snapshots", get(async || axum::Json(json!([{"id": "vs_1", "status": "created", "size": 1024, "volume_size": 1_073_741_824_u64, "created_at": "2026-01-31T12:34:56Z", "retention_days": 5}]))))
        .route("/hangar/v1/apps/a1/volumes/vol_2/recover", post(async || axum::Json(volume("vol_2", "recovering"))))
        .route("/v1/apps/a1/machines", get(async || axum::Json(json!([machine("started")]))).post(async || axum::Json(machine("created"))))
        .route(one, get(async || axum::Json(machine("started"))).post(async || axum::Json(machine("started"))))
        .route(&format!("{one}/wait"), get(async |request: Request| {
            if request.uri().query().is_some_and(|query| query.contains("stopped") && !query.contains("started")) {
                return refused(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded: timeout");
            }
            axum::Json(json!({"ok": true})).into_response()
        }))
        .route(&format!("{one}/exec"), post(exec))
        .route(&format!("{one}/lease"), post(async || (StatusCode::CREATED, axum::Json(json!({"status": "success", "data": {"nonce": "n1"}})))).delete(async || axum::Json(json!({"ok": true}))))
        .route("/hangar/v1/apps/a1/machines/m1/logs", get(async move || log))
        .route("/hangar/v1/images", post(async move || import).get(async || axum::Json(json!([]))))
        .route("/hangar/v1/key/export", post(async || axum::Json(json!({"id": "k", "text": "hangar-key-1-x"}))))
        .layer(axum::middleware::from_fn_with_state(seen, keep))
}

async fn keep(State(seen): State<Seen>, request: Request, next: Next) -> Response {
    let authorized = request
        .headers()
        .get("authorization")
        .is_some_and(|value| value == "Bearer good");
    if !authorized {
        return refused(StatusCode::UNAUTHORIZED, "no valid token");
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if let (Some(nonce), Value::Object(map)) = (parts.headers.get("fly-machine-lease-nonce"), &mut value) {
        map.insert("nonce-header".to_owned(), json!(nonce.to_str().unwrap()));
    }
    seen.lock()
        .unwrap()
        .push((format!("{} {}", parts.method, parts.uri.path()), value));
    next.run(Request::from_parts(parts, axum::body::Body::from(bytes)))
        .await
}

#[tokio::test]
async fn apps_are_created_listed_and_destroyed_in_the_words_of_fly() {
    let world = World::start().await;
    let ran = world.run(&["apps", "create", "a1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "New app created: a1\n"));
    assert_eq!(world.body_of("POST /v1/apps")["org_slug"], "personal");
    let ran = world.run(&["apps", "create", "taken"]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.words,
        "Error: create app: name \"taken\" has already been taken; choose another (Request ID: R-1)\n"
    );
    let ran = world.run(&["apps", "list"]).await;
    assert_eq!(
        ran.out.lines().next().unwrap(),
        " NAME │ OWNER    │ STATUS  │ NETWORK │ MACHINES │ VOLUMES"
    );
    let ran = world.run(&["apps", "destroy", "a1"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.words
            .contains("yes flag must be specified when not running interactively"),
        "{}",
        ran.words
    );
    let ran = world.run(&["apps", "destroy", "a1", "-y"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "Destroyed app a1\n"));
}

#[tokio::test]
async fn volumes_are_listed_without_those_on_their_way_out() {
    let world = World::start().await;
    let ran = world.run(&["volumes", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert!(ran.out.starts_with("[\n    {\n"), "{}", ran.out);
    let ran = world.run(&["vol", "list", "--all"]).await;
    assert!(
        ran.out.contains(" vol_2 │ pending_destroy │ data │ 3GB "),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn a_volume_is_created_shown_extended_and_destroyed() {
    let world = World::start().await;
    let ran = world
        .run(&[
            "volumes",
            "create",
            "data",
            "-r",
            "local",
            "-s",
            "3",
            "--no-encryption",
            "-y",
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out
            .starts_with("                  ID: vol_3\n                Name: data\n"),
        "{}",
        ran.out
    );
    let body = world.body_of("POST /v1/apps/a1/volumes");
    assert_eq!(
        (&body["size_gb"], &body["encrypted"], &body["fstype"]),
        (&json!(3), &json!(false), &Value::Null)
    );
    let ran = world.run(&["volumes", "extend", "vol_1", "-s", "+2"]).await;
    assert_eq!(
        world.body_of("PUT /v1/apps/a1/volumes/vol_1/extend")["size_gb"],
        5
    );
    assert!(
        ran.out
            .ends_with("No Machine has the volume: its file system grows when one starts with it\n"),
        "{}",
        ran.out
    );
    assert_eq!(world.run(&["volumes", "extend", "vol_1"]).await.code, 2);
    assert_eq!(
        world
            .run(&["volumes", "extend", "vol_1", "-s", "much"])
            .await
            .code,
        2
    );
    let ran = world.run(&["volumes", "destroy", "vol_1", "-y"]).await;
    assert_eq!(ran.out, "Destroyed volume ID: vol_1 name: data\n");
    let ran = world.run(&["volumes", "recover", "vol_2", "--json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&ran.out).unwrap()["state"],
        "recovering"
    );
    let ran = world.run(&["volumes", "snapshots", "list", "vol_1"]).await;
    assert!(
        ran.out
            .starts_with("Snapshots\n ID   │ STATUS  │ STORED SIZE │ VOL SIZE │"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("Total stored size: 1.00 KiB\n"), "{}", ran.out);
}

#[tokio::test]
async fn exit_codes_tell_no_from_later_from_misuse() {
    let world = World::start().await;
    let ran = world.run(&["volumes", "show", "vol_nope"]).await;
    assert_eq!(
        (ran.code, ran.words.as_str()),
        (
            1,
            "Error: retrieve volume: volume vol_nope was not found in app 'a1' (Request ID: R-1)\n"
        )
    );
    assert_eq!(world.run(&["volumes", "show", "vol_busy"]).await.code, 3);
    assert_eq!(world.run(&["volumes", "show"]).await.code, 2);
    let nowhere = [
        ("HANGAR_ENDPOINT", "http://127.0.0.1:1"),
        ("FLY_API_TOKEN", "good"),
    ];
    let ran = run_with(&["volumes", "list", "-a", "a1"], &nowhere).await;
    assert_eq!(ran.code, 3);
    assert!(ran.words.contains("hangar up"), "{}", ran.words);
    assert_eq!(run_with(&["volumes", "list"], &nowhere).await.code, 2);
    let wrong = [("HANGAR_ENDPOINT", world.base.as_str()), ("FLY_API_TOKEN", "bad")];
    assert_eq!(run_with(&["apps", "list"], &wrong).await.code, 1);
    let data = tempfile::tempdir().unwrap();
    let ran = run_with(
        &["apps", "list"],
        &[("HANGAR_DATA", data.path().to_str().unwrap())],
    )
    .await;
    assert_eq!(ran.code, 1);
    assert!(ran.words.contains("start one with `hangar up`"), "{}", ran.words);
}

#[tokio::test]
async fn a_machine_is_run_with_a_free_volume_and_its_command() {
    let world = World::start().await;
    let words = [
        "machine",
        "run",
        "demo",
        "--volume",
        "data:/data",
        "-e",
        "A=b",
        "--rm",
        "/bin/sh",
        "-c",
        "true",
    ];
    let ran = world.run(&words).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out
            .starts_with("Success! A Machine has been successfully launched in app a1\n Machine ID: m1\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .ends_with("connect via the following private ip\n  fdaa:0:1:2:3:4:5:6\n"),
        "{}",
        ran.out
    );
    let config = &world.body_of("POST /v1/apps/a1/machines")["config"];
    assert_eq!(config["init"]["cmd"], json!(["/bin/sh", "-c", "true"]));
    assert_eq!(
        (&config["mounts"][0]["volume"], &config["auto_destroy"]),
        (&json!("vol_1"), &json!(true))
    );
    let ran = world
        .run(&["machine", "run", "demo", "--volume", "nosuch:/data"])
        .await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.words.contains("not enough unattached volumes for 'nosuch'"),
        "{}",
        ran.words
    );
}

#[tokio::test]
async fn a_command_in_a_machine_gives_its_output_and_whether_it_failed() {
    let world = World::start().await;
    let ran = world.run(&["machine", "exec", "m1", "echo hi"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.words.as_str()),
        (0, "hi\n", "warn\n")
    );
    let ran = world.run(&["machine", "exec", "m1", "false"]).await;
    assert_eq!((ran.code, ran.words.as_str()), (1, "warn\nError: Exit code: 1\n"));
    let ran = world
        .run(&["machine", "exec", "m1", "true", "--json", "--timeout", "5"])
        .await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["exit_code"], 0);
    assert_eq!(world.body_of("POST /v1/apps/a1/machines/m1/exec")["timeout"], 5);
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_mention_and_holds_the_lease() {
    let world = World::start().await;
    let ran = world
        .run(&["machine", "update", "m1", "-e", "B=2", "--vm-memory", "512", "-y"])
        .await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "Machine m1 updated successfully!\n"),
        "{ran:?}"
    );
    let body = world.body_of("POST /v1/apps/a1/machines/m1");
    assert_eq!(body["config"]["env"], json!({"A": "1", "B": "2"}));
    assert_eq!(
        (&body["config"]["guest"]["memory_mb"], &body["nonce-header"]),
        (&json!(512), &json!("n1"))
    );
    world.body_of("DELETE /v1/apps/a1/machines/m1/lease");
}

#[tokio::test]
async fn waiting_in_vain_ends_in_time_and_says_what_is() {
    let world = World::start().await;
    let ran = world
        .run(&[
            "machine",
            "wait",
            "m1",
            "--state",
            "stopped",
            "--wait-timeout",
            "0s",
        ])
        .await;
    assert_eq!(ran.code, 3);
    assert!(ran.words.contains("it is \"started\" now"), "{}", ran.words);
    let ran = world.run(&["machine", "destroy", "m1"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.words
            .contains("currently started, either stop first or use --force flag"),
        "{}",
        ran.words
    );
}

#[tokio::test]
async fn logs_images_and_keys_come_through() {
    let world = World::start().await;
    let ran = world.run(&["machine", "logs", "m1"]).await;
    assert_eq!(ran.out, "T [stdout] one\nT [stderr] two\n");
    let ran = world
        .run(&["images", "import", "docker.io/library/x:1", "--name", "x:1"])
        .await;
    assert_eq!(ran.code, 2, "a registry's image keeps its reference");
    let ran = world.run(&["images", "import", "docker.io/library/x:1"]).await;
    assert_eq!(ran.out, "Imported x:1 sha256:ab\n", "{}", ran.words);
    assert_eq!(
        world.body_of("POST /hangar/v1/images")["reference"],
        "docker.io/library/x:1"
    );
    let ran = world.run(&["key", "export"]).await;
    assert_eq!(ran.out, "hangar-key-1-x\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let ran = world.run(&["key", "export", "-o", file.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "hangar-key-1-x\n");
}

#[tokio::test]
async fn completions_and_the_manual_come_from_the_command_line_itself() {
    let ran = run_with(&["completions", "bash"], &[]).await;
    assert!(ran.code == 0 && ran.out.contains("_hangar()"), "{}", ran.words);
    let ran = run_with(&["man"], &[]).await;
    assert!(
        ran.out.contains(".TH hangar 1") && ran.out.contains("HANGAR VOLUMES EXTEND"),
        "{}",
        ran.out
    );
}
