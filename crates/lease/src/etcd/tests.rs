use std::time::Duration;

use super::{
    model::{Fault, Model},
    *,
};
use crate::{
    Epoch, Held, Progress, Provider as _,
    recorded::places::{TTL, holder, id},
};

const PROGRESS: Progress = Progress {
    epoch: Epoch(1),
    txids: 7,
};

fn config(members: usize) -> EtcdConfig {
    let endpoints: Vec<String> = (0..members).map(|member| format!("http://m{member}")).collect();
    EtcdConfig::new(&endpoints, "lease", TTL).unwrap()
}

fn lease(model: &Arc<Model>, config: EtcdConfig, node: &str) -> EtcdLease {
    let gateway = Arc::clone(model) as Arc<dyn Gateway>;
    EtcdLease::new(gateway, config, holder(node))
}

fn logging_in(username: &str, password: &str) -> EtcdConfig {
    let mut config = config(1);
    config.login = Some(Login {
        username: username.to_owned(),
        password: password.to_owned(),
    });
    config
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_known_as_its_own_and_is_made_once() {
    let model = Arc::new(Model::default());
    let (a, b) = (lease(&model, config(1), "a"), lease(&model, config(1), "b"));
    let free = a.look().await.unwrap();
    model.asked();
    model.fail(TXN, &[Fault::Unanswered]);
    let grant = a.acquire(&free, "c").await.unwrap().unwrap();
    assert_eq!(grant.epoch, Epoch(1));
    assert_eq!(model.asked(), [(0, RANGE), (0, TXN), (0, TXN)]);
    model.fail(TXN, &[Fault::Unanswered]);
    assert_eq!(a.renew(&grant, PROGRESS).await.unwrap(), Some(grant.clone()));
    let seen = b.look().await.unwrap();
    assert_eq!((seen.renewal, seen.progress), (1, PROGRESS), "once");
    // What the other has written meanwhile is not its own.
    assert_eq!(b.acquire(&free, "c").await.unwrap(), None);
    // When nothing is heard for longer nobody knows; whoever looks does.
    model.fail(TXN, &[Fault::Unanswered, Fault::Unheard]);
    assert!(matches!(
        a.pass_on(&grant, &id("b")).await,
        Err(AskError::Etcd { .. })
    ));
    assert!(matches!(b.look().await.unwrap().held, Held::KeptFor(..)));
}

#[tokio::test]
async fn members_are_asked_in_turn_and_first_the_one_that_answered_last() {
    let model = Arc::new(Model::default());
    let a = lease(&model, config(3), "a");
    model.fail(
        RANGE,
        &[Fault::Unheard, Fault::Refused(503, "etcdserver: no leader")],
    );
    a.look().await.unwrap();
    a.look().await.unwrap();
    assert_eq!(model.asked(), [(0, RANGE), (1, RANGE), (2, RANGE), (2, RANGE)]);
    model.fail(RANGE, &[Fault::Foreign; 2]);
    model.fail(RANGE, &[Fault::Refused(403, "etcdserver: permission denied")]);
    let failed = a.look().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "/v3/kv/range at http://m1:2379: etcdserver: permission denied (status 403)"
    );
    assert_eq!(model.asked(), [(2, RANGE), (0, RANGE), (1, RANGE)]);
    model.fail(RANGE, &[Fault::Foreign; 3]);
    assert!(matches!(a.look().await, Err(AskError::EtcdAnswer { .. })));
}

#[tokio::test]
async fn who_has_to_log_in_does_so_once_and_again_when_that_has_ended() {
    let model = Arc::new(Model::default());
    let a = lease(&model, logging_in("litefs", "secret"), "a");
    a.look().await.unwrap();
    assert_eq!(
        model.asked(),
        [(0, AUTHENTICATE), (0, RANGE)],
        "nobody has to yet"
    );
    model.demand("litefs", "secret");
    let grant = a.acquire(&a.look().await.unwrap(), "c").await.unwrap().unwrap();
    model.asked();
    model.end_tokens();
    a.renew(&grant, PROGRESS).await.unwrap().unwrap();
    assert_eq!(
        model.asked(),
        [(0, RANGE), (0, AUTHENTICATE), (0, RANGE), (0, TXN)]
    );
    for (config, part) in [
        (config(1), "user name is empty"),
        (logging_in("litefs", "guess"), "authentication failed"),
    ] {
        let failed = lease(&model, config, "b").look().await.unwrap_err();
        assert!(failed.to_string().contains(part), "{failed}");
        assert!(!format!("{failed:?}").contains("guess"), "{failed:?}");
    }
}

#[tokio::test]
async fn others_wait_for_the_delay_too_before_a_lease_is_free() {
    let model = Arc::new(Model::default());
    let mut config = config(1);
    config.lock_delay = Duration::from_secs(2);
    let a = lease(&model, config, "a");
    a.acquire(&a.look().await.unwrap(), "c").await.unwrap().unwrap();
    let seen = a.look().await.unwrap();
    assert_eq!(
        (a.timing().ttl, seen.ttl),
        (TTL, Some(TTL + Duration::from_secs(2)))
    );
}

#[test]
fn where_etcd_is_is_read_and_what_is_wrong_with_it_is_told() {
    let read = |text: &str| EtcdConfig::new(&[text.to_owned()], "lease", TTL);
    for (text, endpoint) in [
        ("http://etcd", "http://etcd:2379"),
        ("https://[::1]:4001/", "https://[::1]:4001"),
    ] {
        assert_eq!(read(text).unwrap().endpoints, [endpoint]);
    }
    for wrong in [
        "etcd:2379",
        "unix:///run/etcd",
        "http://",
        "http://root:pw@etcd",
        "http://etcd/v3",
        "http://etcd?a=b",
    ] {
        assert_eq!(read(wrong), Err(EtcdConfigError::Endpoint(wrong.to_owned())));
    }
    assert_eq!(
        EtcdConfig::new(&[], "lease", TTL),
        Err(EtcdConfigError::NoEndpoints)
    );
    assert_eq!(
        EtcdConfig::new(&["http://m".to_owned()], "", TTL),
        Err(EtcdConfigError::Key)
    );
    assert_eq!(
        config(3).attempt() * 9,
        config(1).attempt() * 3,
        "together a third of the lease"
    );
    assert!(!format!("{:?}", logging_in("litefs", "secret")).contains("secret"));
}
