//! Machines that find each other by name.

use guest_init::proto::config::{AppNet, NameData, NameRecord, UserNet};
use guest_init::proto::{Reply, Request};

use super::machine::Machine;
use super::qemu::Spec;
use super::run;

fn net(id: &str, mac: &str, backend: &str) -> Vec<String> {
    [
        "-netdev".into(),
        format!("{backend},id={id}"),
        "-device".into(),
        format!("virtio-net-device,netdev={id},mac={mac}"),
    ]
    .to_vec()
}

fn record(name: &str, address: &str) -> NameRecord {
    NameRecord {
        name: name.into(),
        data: NameData::Aaaa(address.parse().unwrap()),
    }
}

fn machine(script: &str, number: u8, wire: &str) -> Spec {
    let mut spec = Spec::new(script);
    let mac = format!("52:54:00:00:01:{number:02x}");
    spec.arguments = net("app", &mac, wire);
    let address = format!("fdaa:0:1::{number}").parse().unwrap();
    spec.config.network.app_net = Some(AppNet {
        mac,
        address,
        prefix: 64,
        mtu: AppNet::MTU,
    });
    spec
}

#[test]
fn two_machines_of_an_app_exchange_data_by_name() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("wire").display().to_string();
        let server = machine(
            "echo hello from one > /srv/web/f; httpd -p [::]:9000 -h /srv/web && echo ready; sleep 1000",
            1,
            &format!("stream,server=on,addr.type=unix,addr.path={socket}"),
        );
        let mut one = Machine::start(server).await;
        one.said("ready").await;
        let mut client = machine(
            "sleep 1000",
            2,
            &format!("stream,server=off,addr.type=unix,addr.path={socket}"),
        );
        client.arguments.extend(net("user", "52:54:00:00:02:02", "user"));
        client.config.network.user_net = Some(UserNet::new("52:54:00:00:02:02"));
        client.config.names = vec![record("m1.vm.web.internal", "fdaa:0:1::1")];
        let mut two = Machine::start(client).await;
        two.started().await;
        assert_eq!(
            two.sh("wget -qO- http://m1.vm.web.internal:9000/f").await,
            "hello from one"
        );
        assert!(two.sh("ip route").await.contains("default via 10.0.2.2"));
        assert!(
            two.sh("ip -6 addr; cat /sys/class/net/eth0/mtu")
                .await
                .contains("fdaa:0:1::2/64")
        );

        assert!(
            two.sh("nslookup other.internal || true")
                .await
                .contains("NXDOMAIN")
        );
        let mut records = vec![
            record("web.internal", "fdaa:0:1::1"),
            record("web.internal", "fdaa:0:1::2"),
        ];
        records.push(NameRecord {
            name: "vms.web.internal".into(),
            data: NameData::Txt("m1 ams,m2 ams".into()),
        });
        assert_eq!(two.call(Request::Names { records }).await, Reply::Done);
        let answer = two
            .sh("nslookup -type=aaaa web.internal; nslookup -type=txt vms.web.internal")
            .await;
        for expected in ["fdaa:0:1::1", "fdaa:0:1::2", "m1 ams,m2 ams"] {
            assert!(answer.contains(expected), "{answer}");
        }
        assert!(
            two.sh("nslookup m1.vm.web.internal || true")
                .await
                .contains("NXDOMAIN"),
            "replaced names are gone"
        );
        for machine in [&mut one, &mut two] {
            machine
                .call(Request::Stop {
                    signal: 9,
                    timeout_ms: 100,
                })
                .await;
        }
        one.off().await;
        two.off().await;
    });
}
