use super::*;
use crate::{
    Epoch,
    recorded::places::{Place, TTL, id},
};

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

fn keeper(place: &Place, node: &str, txids: u64) -> (Keeper, JoinHandle<()>) {
    let lease: Arc<dyn Provider> = Arc::from(place.lease(node));
    let settings = Settings {
        me: id(node),
        candidate: true,
        timing: lease.timing(),
        demote_delay: TTL,
        mutant: None,
    };
    Keeper::start(lease, settings, Arc::new(Node(txids)), None, Arc::default())
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
    for place in Place::all() {
        let (a, task) = keeper(&place, "a", 9);
        assert_eq!(
            becomes(&a, is_primary).await,
            Standing::Primary { epoch: Epoch(1) }
        );
        assert_eq!(a.right().now(), Some(Epoch(1)));
        let (b, other) = keeper(&place, "b", 8);
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
        other.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_handed_over_and_given_back_without_waiting_for_its_end() {
    for place in Place::all() {
        let (a, task) = keeper(&place, "a", 9);
        becomes(&a, is_primary).await;
        let (b, other) = keeper(&place, "b", 8);
        becomes(&b, |now| matches!(now, Standing::Replica { .. })).await;
        let began = Instant::now();
        a.hand_off(id("b")).await.unwrap();
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
        assert_eq!(a.hand_off(id("b")).await, Err(HandOffError::NotPrimary));
        let (stopping, began) = (b.clone(), Instant::now());
        stopping.stop().await;
        stopping.say(Input::Drained).await;
        becomes(&a, is_primary).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        task.abort();
        other.abort();
    }
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
