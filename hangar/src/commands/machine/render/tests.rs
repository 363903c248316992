use serde_json::json;

use super::*;

fn machine() -> Value {
    json!({"id": "m1", "name": "web", "state": "started", "region": "local", "private_ip": "fdaa:0:1:a7b:1:2:3:4", "instance_id": "01J",
        "created_at": "1970-01-01T00:00:00Z", "updated_at": "1970-01-01T00:00:30Z",
        "image_ref": {"repository": "library/nginx", "tag": "1.27"},
        "config": {"image": "nginx", "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256}, "mounts": [{"volume": "vol_1", "path": "/data"}]},
        "checks": [{"name": "http", "status": "passing"}, {"name": "tcp", "status": "critical"}],
        "events": [{"type": "exit", "status": "stopped", "source": "flyd", "timestamp": 59_000,
            "request": {"exit_event": {"exit_code": 137, "oom_killed": true, "requested_stop": false}}}]})
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(60).unwrap()
}

#[test]
fn a_row_says_image_volume_size_and_checks() {
    let table = list(&[machine()], now());
    let row = table.lines().nth(1).unwrap();
    let cells: Vec<&str> = row.split('│').map(str::trim).collect();
    assert_eq!(
        cells,
        [
            "m1",
            "web",
            "started",
            "1/2",
            "local",
            "library/nginx:1.27",
            "fdaa:0:1:a7b:1:2:3:4",
            "vol_1",
            "1 minute ago",
            "30 seconds ago",
            "",
            "shared-cpu-1x:256MB"
        ]
    );
}

#[test]
fn an_exit_says_how_it_ended() {
    let table = events(&machine(), now());
    assert!(
        table.contains("exit_code=137,oom_killed=true,requested_stop=false"),
        "{table}"
    );
    assert!(table.contains("1 second ago"), "{table}");
}

#[test]
fn services_are_shown_where_this_host_reaches_them() {
    assert_eq!(services(&machine()), Vec::<String>::new());
    let mut serving = machine();
    let forward =
        json!({"protocol": "tcp", "guest_port": 80, "host_address": "127.130.1.2", "host_port": 20_080});
    serving["hangar"] = json!({"forwards": [forward]});
    assert_eq!(services(&serving), ["127.130.1.2:20080 to port 80 (tcp)"]);
}

#[test]
fn an_exit_that_the_workload_did_not_make_says_why() {
    let mut machine = machine();
    assert_eq!(why_not_running(&machine), None);
    let exit = json!({"exit_code": 127, "cause": "not_started", "error": "workload: /nosuch: not found"});
    machine["events"][0]["request"]["exit_event"] = exit;
    assert_eq!(
        why_not_running(&machine).as_deref(),
        Some("workload: /nosuch: not found")
    );
    let limit = json!({"type": "restart_limit", "request": {"error": "failed too often"}});
    machine["events"].as_array_mut().unwrap().insert(0, limit);
    let table = events(&machine, now());
    assert!(table.contains("error=workload: /nosuch: not found"), "{table}");
    assert!(table.contains("failed too often"), "{table}");
    machine["events"][1]["request"]["exit_event"]["cause"] = json!("exited");
    assert_eq!(why_not_running(&machine), None);
}

#[test]
fn the_status_begins_with_what_scripts_look_for() {
    assert_eq!(
        head(&machine()),
        "Machine ID: m1\nInstance ID: 01J\nState: started\nHostStatus: ok\n"
    );
    assert!(vm(&machine(), "a1").contains("  Volume         = vol_1 at /data\n"));
}
