//! The app network: machines of one app reach each other by name, machines of another do not reach them at all.

use it::{image, node::Node};
use serde_json::json;

/// Serves one line to whoever connects, for ever.
const SERVER: &str = "while true; do echo hello-from-a | nc -l -p 7000; done";

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_one_app_meet_by_name_and_no_other_app_gets_in() {
    let node = Node::start().unwrap();
    image::import(&node).unwrap();
    for app in ["inside", "outside"] {
        let body = json!({"app_name": app, "name": app, "org_slug": "personal"});
        node.ok("POST", "/v1/apps", Some(&body)).await.unwrap();
    }
    let server = json!({"init": {"exec": ["/bin/sh", "-c", SERVER]}});
    let (a, b, c) = tokio::join!(
        image::run(&node, "inside", server),
        image::run(&node, "inside", json!({})),
        image::run(&node, "outside", json!({})),
    );
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    let machine = node
        .ok("GET", &format!("/v1/apps/inside/machines/{a}"), None)
        .await
        .unwrap();
    let address = machine["private_ip"].as_str().unwrap().to_owned();
    assert!(
        address.starts_with("fdaa:") && address.split(':').count() == 8,
        "{address}"
    );

    let by_name = format!("nc -w 20 {a}.vm.inside.internal 7000 < /dev/null");
    let heard = image::exec(&node, "inside", &b, &by_name).await.unwrap();
    assert_eq!(heard, "hello-from-a");

    // The stranger knows neither the name nor a way to the address.
    let name = format!("nslookup {a}.vm.inside.internal >/dev/null 2>&1 && echo known || echo unknown");
    assert_eq!(image::exec(&node, "outside", &c, &name).await.unwrap(), "unknown");
    let direct = format!("nc -w 5 {address} 7000 < /dev/null || echo unreachable");
    assert_eq!(
        image::exec(&node, "outside", &c, &direct).await.unwrap(),
        "unreachable"
    );

    // And the server is still there for its own.
    assert_eq!(
        image::exec(&node, "inside", &b, &by_name).await.unwrap(),
        "hello-from-a"
    );
}
