//! What a user lives through with machines.

use http::Method;
use serde_json::{Value, json};

use crate::node::{Machine, Node};

const MIB: u64 = 1 << 20;

/// Appends a line to the volume every tenth of a second, and says what signal it got.
const WRITER: &str = "trap 'echo got the signal; exit 3' TERM INT; n=0; \
    while true; do n=$((n+1)); echo $n >> /data/numbers; echo line $n; sleep 0.1; done";

fn writer(volume: &str) -> Value {
    json!({
        "init": {"exec": ["/bin/sh", "-c", WRITER]},
        "mounts": [{"volume": volume, "path": "/data"}],
        "restart": {"policy": "no"},
    })
}

fn script(script: &str) -> Value {
    json!({"init": {"exec": ["/bin/sh", "-c", script]}})
}

async fn lines_of(machine: &Machine<'_>) -> Vec<Value> {
    let reply = machine
        .node
        .call(Method::GET, &format!("{}/logs", machine.path), None)
        .await;
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_volume_lives_from_create_to_destroy() {
    let node = Node::start().await;
    node.volumed.create("vol_story", 256 * MIB);
    let machine = node.run("web", writer("vol_story")).await;

    let shown = machine.get("").await;
    assert_eq!(
        shown["private_ip"].as_str().unwrap().split(':').count(),
        8,
        "{shown}"
    );
    assert_eq!(shown["hangar"]["generations"]["vol_story"], 1);
    assert!(
        machine
            .sh("env")
            .await
            .contains(&format!("FLY_MACHINE_ID={}", machine.id))
    );
    assert!(machine.sh("df /data").await.contains("/data"));

    let echoed = machine
        .post("/exec", json!({"cmd": "sh -c 'cat; exit 5'", "stdin": "given"}))
        .await;
    assert_eq!(
        (&echoed["stdout"], &echoed["exit_code"]),
        (&json!("given"), &json!(5))
    );
    let late = json!({"cmd": "sleep 60", "timeout": 1});
    let late = node
        .call(Method::POST, &format!("{}/exec", machine.path), Some(late))
        .await;
    let text = String::from_utf8_lossy(&late.body).into_owned();
    assert!(
        late.status == 408 && text.contains("deadline_exceeded") && text.contains("timeout"),
        "{text}"
    );

    grows_and_copies(&node, &machine).await;

    machine
        .post("/stop", json!({"signal": "SIGTERM", "timeout": "20s"}))
        .await;
    machine.wait("stopped").await;
    let exit = machine.last_exit().await;
    assert_eq!(
        (&exit["exit_code"], &exit["requested_stop"]),
        (&json!(3), &json!(true))
    );
    let lines = lines_of(&machine).await;
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "line 1" && line["stream"] == "stdout")
    );
    assert_eq!(lines.last().unwrap()["message"], "got the signal");
    assert!(node.volumed.volume("vol_story").formatted);
    let reports = node.volumed.volume("vol_story").reports;
    assert!(
        reports
            .iter()
            .any(|report| report["bytes_used"].as_u64() > Some(0)),
        "{reports:?}"
    );

    // The volume is what stays; the root file system is fresh.
    machine.post("/start", json!({})).await;
    machine.wait("started").await;
    let numbers = machine.sh("wc -l < /data/numbers").await;
    assert!(numbers.trim().parse::<u32>().unwrap() > 5, "{numbers}");
    machine.destroy().await;
    assert_eq!(node.volumed.volume("vol_story").holder, None);
    assert!(!node.dir.path().join("d/m").join(&machine.id).exists());
}

/// While the writer writes.
async fn grows_and_copies(node: &Node, machine: &Machine<'_>) {
    node.volumed.extend("vol_story", 512 * MIB);
    let grow = json!({"machine_id": machine.id, "generation": 1, "size_bytes": 512 * MIB});
    let grown = node
        .ok(Method::POST, "/v1/volumes/vol_story/grow", Some(grow))
        .await;
    assert!(grown["fs_bytes"].as_u64().unwrap() > 450 * MIB, "{grown}");
    let smaller = json!({"machine_id": machine.id, "generation": 1, "size_bytes": 256 * MIB});
    assert_eq!(
        node.call(Method::POST, "/v1/volumes/vol_story/grow", Some(smaller))
            .await
            .status,
        422
    );
    let stale = json!({"machine_id": machine.id, "generation": 7, "size_bytes": 600 * MIB});
    assert_eq!(
        node.call(Method::POST, "/v1/volumes/vol_story/grow", Some(stale))
            .await
            .status,
        409
    );

    // Copied at a point in time: a file system that e2fsck finds whole after its journal was replayed.
    let copy_path = node.dir.path().join("copy");
    std::fs::File::create_new(&copy_path)
        .unwrap()
        .set_len(512 * MIB)
        .unwrap();
    let copy = json!({"machine_id": machine.id, "generation": 1, "copy_id": "c1", "target_path": copy_path});
    node.ok(Method::POST, "/v1/volumes/vol_story/copy", Some(copy))
        .await;
    let check = std::process::Command::new("/sbin/e2fsck")
        .arg("-fy")
        .arg(&copy_path)
        .output()
        .unwrap();
    assert!(
        check.status.code().unwrap() <= 1,
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_finds_its_guests_again_and_learns_what_it_missed() {
    let mut node = Node::start().await;
    let (stays, ends) = {
        let stays = node
            .run(
                "web",
                script("n=0; while true; do n=$((n+1)); echo $n > /n; sleep 0.1; done"),
            )
            .await;
        let ends = node
            .run(
                "web",
                json!({"init": {"exec": ["/bin/sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exit 9"]},
                               "restart": {"policy": "no"}}),
            )
            .await;
        (stays.id.clone(), ends.id.clone())
    };
    let path = |id: &str| format!("/v1/apps/web/machines/{id}");
    let before = node.ok(Method::GET, &path(&stays), None).await;
    let ends_dir = node.dir.path().join("d/m").join(&ends);
    // The command that ends the second machine outlives the call that the daemon's death cuts off.
    let exec = json!({"command": ["sh", "-c", "(sleep 2; touch /go) >/dev/null 2>&1 &"]});
    node.ok(Method::POST, &format!("{}/exec", path(&ends)), Some(exec))
        .await;
    node.kill().await;
    let ended = async {
        use machine_runner::shim::facts::RunPhase;
        let status = || machine_runner::shim::board::read(&ends_dir);
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
        while status().is_none_or(|status| status.phase != RunPhase::Ended) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended)
        .await
        .unwrap();
    node.serve().await;
    let machine = Machine {
        node: &node,
        path: path(&stays),
        id: stays,
    };
    let after = machine.get("").await;
    assert_eq!(after["state"], "started");
    assert_eq!(
        after["hangar"]["boot_id"], before["hangar"]["boot_id"],
        "the guest was not restarted"
    );
    let (first, second) = (machine.sh("cat /n").await, machine.sh("sleep 1; cat /n").await);
    assert_ne!(first, second, "the guest runs on");
    let machine = Machine {
        node: &node,
        path: path(&ends),
        id: ends,
    };
    machine.wait("stopped").await;
    assert_eq!(machine.last_exit().await["exit_code"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_machine_goes_on_where_it_was_unless_its_volume_moved_on() {
    let node = Node::start().await;
    node.volumed.create_encrypted("vol_susp", 256 * MIB);
    let machine = node.run("web", writer("vol_susp")).await;
    machine.sh("echo kept > /tmp/in-memory").await;
    machine.post("/suspend", json!({})).await;
    machine.wait("suspended").await;
    let ram = node.dir.path().join("d/m").join(&machine.id).join("ram.img");
    assert!(ram.exists());
    // Grown while nobody runs: volumed is on its own, and the guest is told after the resume.
    node.volumed.extend("vol_susp", 512 * MIB);
    let grow = json!({"machine_id": machine.id, "generation": 1, "size_bytes": 512 * MIB});
    let grown = node
        .ok(Method::POST, "/v1/volumes/vol_susp/grow", Some(grow))
        .await;
    assert_eq!(grown["detached_guest"], true);
    machine.post("/start", json!({})).await;
    machine.wait("started").await;
    assert!(!ram.exists(), "a RAM image is used once");
    assert_eq!(machine.sh("cat /tmp/in-memory").await.trim(), "kept");
    let size_kb: u64 = machine
        .sh("df -k /data | tail -n 1")
        .await
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(size_kb > 450 * 1024, "{size_kb}");
    let guest_s: i64 = machine.sh("date +%s").await.trim().parse().unwrap();
    let host_s = daemon::wall_clock::now().as_second();
    assert!((guest_s - host_s).abs() <= 5, "guest {guest_s}, host {host_s}");

    machine.post("/suspend", json!({})).await;
    machine.wait("suspended").await;
    node.volumed.move_on("vol_susp");
    machine.post("/start", json!({})).await;
    machine.wait("started").await;
    assert_eq!(machine.sh("cat /tmp/in-memory || echo gone").await.trim(), "gone");
    let events = machine.get("/events?limit=50").await;
    let discarded = events
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["type"] == "snapshot_discarded");
    assert!(
        discarded.unwrap()["request"]["reason"]
            .as_str()
            .unwrap()
            .contains("generation"),
        "{events}"
    );
    machine.destroy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_are_told_apart_and_followed_by_the_policy() {
    let node = Node::start().await;
    let fails = json!({"init": {"exec": ["/bin/sh", "-c", "exit 7"]},
                       "restart": {"policy": "on-failure", "max_retries": 1}});
    let hog = "a=0123456789abcdef; while true; do a=$a$a; done";
    let hog = json!({"init": {"exec": ["/bin/sh", "-c", hog]}, "restart": {"policy": "no"}});
    let (fails, hog) = (node.create("web", fails).await, node.create("web", hog).await);
    let fails = Machine {
        node: &node,
        path: format!("/v1/apps/web/machines/{fails}"),
        id: fails,
    };
    let hog = Machine {
        node: &node,
        path: format!("/v1/apps/web/machines/{hog}"),
        id: hog,
    };
    fails.wait("stopped").await;
    let events = fails.get("/events?limit=50").await;
    let kinds: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let exits = kinds.iter().filter(|kind| **kind == "exit").count();
    assert_eq!(exits, 2, "one try more after the first: {kinds:?}");
    assert!(kinds.contains(&"restart_limit"));
    assert_eq!(fails.last_exit().await["exit_code"], 7);
    hog.wait("stopped").await;
    let exit = hog.last_exit().await;
    assert_eq!(
        (&exit["oom_killed"], &exit["guest_signal"]),
        (&json!(true), &json!(9)),
        "{exit}"
    );

    let missing =
        json!({"init": {"exec": ["/bin/nothing"]}, "restart": {"policy": "no"}, "auto_destroy": true});
    let missing = node.create("web", missing).await;
    let missing = Machine {
        node: &node,
        path: format!("/v1/apps/web/machines/{missing}"),
        id: missing,
    };
    missing.wait("destroyed").await;
    let exit = missing.last_exit().await;
    assert_eq!(
        (&exit["exit_code"], &exit["cause"]),
        (&json!(127), &json!("not_started")),
        "{exit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_program_is_missing_says_so_and_is_not_started_again() {
    let node = Node::start().await;
    // The default policy restarts what failed.
    let id = node
        .create("web", json!({"init": {"exec": ["/bin/nothing"]}}))
        .await;
    let machine = Machine {
        node: &node,
        path: format!("/v1/apps/web/machines/{id}"),
        id,
    };
    machine.wait("failed").await;
    let exit = machine.last_exit().await;
    let error = exit["error"].as_str().unwrap();
    assert!(error.contains("/bin/nothing: not found"), "{exit}");
    let lines = lines_of(&machine).await;
    let last = lines.last().unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(
        last["stream"] == "runner" && message.contains("/bin/nothing: not found"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_one_app_meet_by_name_and_those_of_another_do_not() {
    let node = Node::start().await;
    let web = json!({
        "init": {"exec": ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]},
        "services": [{"internal_port": 80, "protocol": "tcp"}],
        "checks": {"up": {"type": "http", "port": 80, "path": "/", "interval": "1s", "grace_period": "30s"}},
    });
    let (server, client, stranger) = tokio::join!(
        node.run("web", web),
        node.run("web", json!({})),
        node.run("other", json!({}))
    );
    let fetch = format!("wget -q -O - http://{}.vm.web.internal/", server.id);
    let fetching = async {
        loop {
            let answer = client
                .post("/exec", json!({"command": ["sh", "-c", fetch], "timeout": 20}))
                .await;
            if answer["exit_code"] == 0 {
                return answer["stdout"].as_str().unwrap().to_owned();
            }
        }
    };
    let page = tokio::time::timeout(std::time::Duration::from_secs(60), fetching).await;
    assert_eq!(
        page.expect("the name is known within a minute"),
        "hello from the machine\n"
    );

    let by_name = stranger
        .post("/exec", json!({"command": ["sh", "-c", fetch], "timeout": 20}))
        .await;
    assert_ne!(by_name["exit_code"], 0, "{by_name}");
    let address = server.get("").await["private_ip"].as_str().unwrap().to_owned();
    let by_address = format!("wget -q -O - http://[{address}]/ & sleep 5; kill $! && echo unreachable");
    let by_address = stranger
        .post(
            "/exec",
            json!({"command": ["sh", "-c", by_address], "timeout": 60}),
        )
        .await;
    assert!(
        !by_address["stdout"].as_str().unwrap().contains("hello"),
        "{by_address}"
    );

    let passing = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
        while server.get("").await["checks"][0]["status"] != "passing" {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), passing)
        .await
        .expect("the check passes");
    let forward = server.get("").await["hangar"]["forwards"][0].clone();
    assert_eq!(forward["guest_port"], 80, "{forward}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_makes_a_new_version_and_a_drained_node_starts_its_machines_again() {
    let mut node = Node::start().await;
    let (path, id) = {
        let machine = node.run("web", json!({"env": {"COLOUR": "red"}})).await;
        let before = machine.get("").await;
        let config = json!({"image": crate::node::IMAGE, "env": {"COLOUR": "blue"}});
        let updated = machine.post("", json!({"config": config})).await;
        assert_ne!(updated["instance_id"], before["instance_id"]);
        assert_eq!(updated["state"], "replacing");
        machine.wait("started").await;
        assert!(machine.sh("env").await.contains("COLOUR=blue"));
        assert_eq!(machine.get("/versions").await.as_array().unwrap().len(), 2);
        (machine.path, machine.id)
    };
    let drained = node.ok(Method::POST, "/v1/drain", Some(json!({}))).await;
    assert_eq!(drained["stopped"], 1);
    assert_eq!(node.ok(Method::GET, &path, None).await["state"], "stopped");
    node.kill().await;
    node.serve().await;
    let machine = Machine {
        node: &node,
        path,
        id,
    };
    machine.wait("started").await;
    machine.post("/stop", json!({})).await;
    machine.wait("stopped").await;
    // An update of a machine that does not run leaves it so.
    let config = json!({"image": crate::node::IMAGE});
    assert_eq!(
        machine.post("", json!({"config": config})).await["state"],
        "stopped"
    );
    machine.destroy().await;
}
