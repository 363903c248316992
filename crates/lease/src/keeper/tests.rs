use objstore::{Key, MemoryStore};

use super::*;
use crate::{Epoch, ObjectLease};

const TTL: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Node(u64);

impl Subject for Node {
    fn progress(&self) -> Progress {
        Progress {
            epoch: Epoch(1),
            txids: self.0,
        }
    }

    fn cluster(&self) -> Option<String> {
        Some("LFSC1".to_owned())
    }

    fn proposes(&self) -> String {
        "LFSC1".to_owned()
    }

    fn adopts(&self, _: &str) {}
}

fn keeper(store: &MemoryStore, node: &str, txids: u64) -> (Keeper, JoinHandle<()>) {
    let me = Holder {
        node: NodeId(node.to_owned()),
        hostname: node.to_owned(),
        url: String::new(),
    };
    let settings = Settings {
        me: me.node.clone(),
        candidate: true,
        timing: ObjectLease::timing(TTL),
        demote_delay: TTL,
        mutant: None,
    };
    let key = Key::new("lease").unwrap();
    let lease = ObjectLease::new(Arc::new(store.clone()), key, me, settings.timing);
    Keeper::start(
        Arc::new(lease),
        settings,
        Arc::new(Node(txids)),
        None,
        Arc::default(),
    )
}

async fn becomes(keeper: &Keeper, wanted: impl Fn(&Standing) -> bool) -> Standing {
    let mut standing = keeper.standing();
    let became = timeout(TTL * 10, standing.wait_for(|now| wanted(now))).await;
    became.unwrap().unwrap().clone()
}

fn is_primary(standing: &Standing) -> bool {
    matches!(standing, Standing::Primary { .. })
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_primary_dies_is_primary_within_the_time_to_live_and_two_seconds() {
    let store = MemoryStore::new();
    let (a, task) = keeper(&store, "a", 9);
    assert_eq!(
        becomes(&a, is_primary).await,
        Standing::Primary { epoch: Epoch(1) }
    );
    assert_eq!(a.right().now(), Some(Epoch(1)));
    let (b, _task) = keeper(&store, "b", 8);
    becomes(&b, |now| matches!(now, Standing::Replica { epoch: Epoch(1), .. })).await;
    task.abort();
    let died = Instant::now();
    assert_eq!(
        becomes(&b, is_primary).await,
        Standing::Primary { epoch: Epoch(2) }
    );
    assert!(
        died.elapsed() <= TTL + Duration::from_secs(2),
        "{:?}",
        died.elapsed()
    );
    assert_eq!(
        (a.right().now(), b.right().now()),
        (None, Some(Epoch(2))),
        "by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_handed_over_and_given_back_without_waiting_for_its_end() {
    let store = MemoryStore::new();
    let (a, task) = keeper(&store, "a", 9);
    becomes(&a, is_primary).await;
    let (b, _task) = keeper(&store, "b", 8);
    becomes(&b, |now| matches!(now, Standing::Replica { .. })).await;
    let began = Instant::now();
    a.hand_off(NodeId("b".to_owned())).await.unwrap();
    a.say(Input::Drained).await;
    let passed = becomes(&a, |now| {
        matches!(now, Standing::HandingOver { lease: Some(_), .. })
    })
    .await;
    assert_eq!(a.right().now(), None);
    let Standing::HandingOver {
        lease: Some(lease), ..
    } = passed
    else {
        panic!()
    };
    b.say(Input::Offered(lease)).await;
    assert_eq!(
        becomes(&b, is_primary).await,
        Standing::Primary { epoch: Epoch(2) }
    );
    assert!(began.elapsed() < Duration::from_millis(100));
    a.say(Input::HandedOff).await;
    becomes(&a, |now| matches!(now, Standing::Replica { epoch: Epoch(2), .. })).await;
    assert_eq!(
        a.hand_off(NodeId("b".to_owned())).await,
        Err(HandOffError::NotPrimary)
    );
    let (stopping, began) = (b.clone(), Instant::now());
    stopping.stop().await;
    stopping.say(Input::Drained).await;
    becomes(&a, is_primary).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_lease_by_hand_never_changes_and_is_not_handed_over() {
    let primary = Keeper::fixed(None);
    assert!(primary.is_fixed() && is_primary(&primary.standing().borrow()));
    assert_eq!(primary.right().now(), Some(Epoch::NONE));
    assert_eq!(
        primary.hand_off(NodeId::default()).await,
        Err(HandOffError::Fixed)
    );
    let replica = Keeper::fixed(Some(Holder::default()));
    assert_eq!(replica.right().now(), None);
}
