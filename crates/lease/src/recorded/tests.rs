use super::{
    places::{Place, TTL, holder, id},
    *,
};

#[tokio::test]
async fn of_two_that_saw_a_free_lease_one_gets_it_and_the_other_sees_whose_it_is() {
    for place in Place::all() {
        let (a, b) = (place.lease("a"), place.lease("b"));
        let (of_a, of_b) = (a.look().await.unwrap(), b.look().await.unwrap());
        assert_eq!(of_a.held, Held::Free);
        let granted = a.acquire(&of_a, "LFSC1").await.unwrap().unwrap();
        assert_eq!(b.acquire(&of_b, "LFSC2").await.unwrap(), None);
        let seen = b.look().await.unwrap();
        assert_eq!(
            (seen.epoch, seen.ours, seen.ttl),
            (granted.epoch, false, Some(TTL))
        );
        assert_eq!(
            (seen.held, seen.cluster.as_deref()),
            (Held::By(holder("a")), Some("LFSC1"))
        );
        assert!(a.look().await.unwrap().ours);
    }
}

#[tokio::test]
async fn a_former_holder_renews_releases_and_passes_on_nothing() {
    for place in Place::all() {
        let (a, b) = (place.lease("a"), place.lease("b"));
        let old = a.acquire(&a.look().await.unwrap(), "c").await.unwrap().unwrap();
        let new = b.acquire(&b.look().await.unwrap(), "c").await.unwrap().unwrap();
        assert!(new.epoch > old.epoch);
        assert_eq!(a.renew(&old, Progress::default()).await.unwrap(), None);
        a.release(&old).await.unwrap();
        assert_eq!(a.pass_on(&old, &NodeId("a".to_owned())).await.unwrap(), None);
        assert!(b.look().await.unwrap().ours);
        assert_eq!(b.renew(&new, Progress::default()).await.unwrap(), Some(new));
    }
}

#[tokio::test]
async fn who_said_something_after_the_decision_is_heard_before_the_lease_is_taken() {
    for place in Place::all() {
        let (a, b) = (place.lease("a"), place.lease("b"));
        let seen = a.look().await.unwrap();
        let progress = Progress {
            epoch: Epoch(1),
            txids: 9,
        };
        b.announce(&seen, Candidate { progress, beat: 1 }).await.unwrap();
        assert_eq!(a.acquire(&seen, "c").await.unwrap(), None);
        let seen = a.look().await.unwrap();
        assert_eq!(seen.candidates[&id("b")].progress, progress);
        assert!(a.acquire(&seen, "c").await.unwrap().is_some());
        // Nobody wants what is held.
        b.announce(&seen, Candidate { progress, beat: 2 }).await.unwrap();
        assert!(a.look().await.unwrap().candidates.is_empty());
    }
}

#[tokio::test]
async fn a_lease_is_handed_to_the_named_node_alone_and_goes_back_only_to_its_holder() {
    for place in Place::all() {
        let [a, b, c] = ["a", "b", "c"].map(|node| place.lease(node));
        let grant = a.acquire(&a.look().await.unwrap(), "c").await.unwrap().unwrap();
        let passed = a.pass_on(&grant, &id("b")).await.unwrap().unwrap();
        assert_eq!(
            a.renew(&grant, Progress::default()).await.unwrap(),
            None,
            "it is not its own any more"
        );
        assert_eq!(c.take_over(&passed).await.unwrap(), None);
        let back = a.take_over(&passed).await.unwrap().unwrap();
        assert_eq!(b.take_over(&passed).await.unwrap(), None, "it was taken back");
        let passed = a.pass_on(&back, &id("b")).await.unwrap().unwrap();
        let taken = b.take_over(&passed).await.unwrap().unwrap();
        assert_eq!(taken.epoch, back.epoch.next());
        assert!(matches!(
            b.take_over("session-of-consul").await,
            Err(AskError::Foreign(_))
        ));
    }
}

#[tokio::test]
async fn what_a_lease_knows_of_its_cluster_outlives_its_holders() {
    for place in Place::all() {
        let a = place.lease("a");
        let grant = a
            .acquire(&a.look().await.unwrap(), "LFSC1")
            .await
            .unwrap()
            .unwrap();
        let progress = Progress {
            epoch: Epoch(1),
            txids: 7,
        };
        a.renew(&grant, progress).await.unwrap().unwrap();
        a.release(&grant).await.unwrap();
        let seen = a.look().await.unwrap();
        assert_eq!(
            (seen.held, seen.progress, seen.epoch),
            (Held::Free, progress, Epoch(1))
        );
        assert_eq!(seen.cluster.as_deref(), Some("LFSC1"));
    }
}

#[tokio::test]
async fn what_is_no_lease_is_told_and_left_alone() {
    for place in Place::all() {
        place.write(b"shopping list").await;
        let a = place.lease("a");
        assert!(matches!(a.look().await, Err(AskError::Record { .. })));
        assert!(a.acquire(&View::default(), "c").await.is_err());
        assert_eq!(place.read().await, b"shopping list");
    }
}

#[tokio::test]
async fn a_node_that_starts_again_has_its_lease_unless_somebody_else_has_had_it_since() {
    for place in Place::all() {
        let (a, b) = (place.lease("a"), place.lease("b"));
        let grant = a.acquire(&a.look().await.unwrap(), "c").await.unwrap().unwrap();
        let again = |node| place.lease_after(node, (id("a"), grant.epoch));
        let seen = again("a2").look().await.unwrap();
        assert!(seen.ours);
        let granted = again("a2").acquire(&seen, "c").await.unwrap().unwrap();
        assert_eq!(granted.epoch, grant.epoch.next());
        assert!(!again("a3").look().await.unwrap().ours, "once");
        b.acquire(&b.look().await.unwrap(), "c").await.unwrap().unwrap();
        assert!(!again("a3").look().await.unwrap().ours);
    }
}
