use objstore::Remedy;

use super::*;

const PURPOSE: Purpose = Purpose("test");

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Reads a counter until the store answers: its etag and value, if it is there.
async fn read(store: &SimStore, key: &Key) -> Option<(ETag, u64)> {
    loop {
        match store.get(key, None, PURPOSE).await {
            Ok(object) => {
                let count = std::str::from_utf8(&object.bytes).unwrap().parse().unwrap();
                return Some((object.etag, count));
            }
            Err(GetError::NotFound { .. }) => return None,
            Err(error) => assert_eq!(error.remedy(), Remedy::Retry, "{error}"),
        }
    }
}

/// What one client's increments came to.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    unknown: u64,
}

/// Increments a counter by compare-and-swap.
async fn count(store: SimStore, key: Key, rounds: u64) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..rounds {
        let put = match read(&store, &key).await {
            None => store.put_if_absent(&key, "1".into(), PURPOSE).await,
            Some((etag, count)) => {
                store
                    .put_if_match(&key, &etag, (count + 1).to_string().into(), PURPOSE)
                    .await
            }
        };
        match put {
            Ok(_) => tally.acknowledged += 1,
            Err(PutError::Unavailable { .. })
            | Err(
                PutError::Exists {
                    maybe_applied: true, ..
                }
                | PutError::Stale {
                    maybe_applied: true, ..
                },
            ) => {
                tally.unknown += 1;
            }
            Err(error) => assert_eq!(error.remedy(), Remedy::Stop, "{error}"),
        }
    }
    tally
}

async fn count_in(world: World, faults: StoreFaults) -> Tally {
    let store = world.store();
    store.set_faults(faults);
    let tasks: Vec<_> = (0..4)
        .map(|host| {
            daemon::spawn(
                "counter",
                count(store.client(&format!("host-{host}")), key("n"), 15),
            )
        })
        .collect();
    let mut total = Tally::default();
    for task in tasks {
        let tally = task.await.unwrap();
        total.acknowledged += tally.acknowledged;
        total.unknown += tally.unknown;
    }
    store.settle().await;
    store.set_faults(StoreFaults::CALM);
    let count = read(&store, &key("n")).await.map_or(0, |(_, count)| count);
    assert!(
        count >= total.acknowledged,
        "an acknowledged increment is gone: {count} {total:?}"
    );
    assert!(
        count <= total.acknowledged + total.unknown,
        "an increment from nowhere: {count} {total:?}"
    );
    total
}

#[test]
fn prop_no_acknowledged_swap_is_lost_and_none_comes_from_nowhere() {
    let mut unknown = 0;
    for seed in 0..60 {
        let (tally, _) = World::run(seed, |world| count_in(world, StoreFaults::ROUGH));
        assert!(tally.acknowledged > 0, "seed {seed}");
        unknown += tally.unknown;
    }
    assert!(unknown > 0, "the bad day was a good one");
}

#[test]
fn a_calm_store_leaves_nothing_unknown() {
    let (tally, _) = World::run(1, |world| count_in(world, StoreFaults::CALM));
    assert_eq!(tally.unknown, 0);
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let digest = |seed| World::run(seed, |world| count_in(world, StoreFaults::ROUGH)).1;
    for seed in 0..5 {
        assert_eq!(digest(seed), digest(seed), "seed {seed}");
    }
    assert_ne!(digest(1), digest(2));
}

#[test]
fn of_many_creators_exactly_one_wins() {
    for seed in 0..20 {
        World::run(seed, async |world| {
            let store = world.store();
            let tasks: Vec<_> = (0..16)
                .map(|host| {
                    let store = store.client(&format!("host-{host}"));
                    daemon::spawn("creator", async move {
                        store
                            .put_if_absent(&key("k"), format!("host {host}").into(), PURPOSE)
                            .await
                    })
                })
                .collect();
            let mut winners = Vec::new();
            for task in tasks {
                winners.extend(task.await.unwrap().ok());
            }
            let object = store.get(&key("k"), None, PURPOSE).await.unwrap();
            assert_eq!(winners, [object.etag], "seed {seed}");
        });
    }
}

#[test]
fn a_late_put_takes_effect_after_its_client_gave_up() {
    World::run(1, async |world| {
        let store = world.store();
        store.set_faults(StoreFaults {
            late: 1.0,
            ..StoreFaults::CALM
        });
        let error = store
            .put_if_absent(&key("k"), "x".into(), PURPOSE)
            .await
            .unwrap_err();
        assert_eq!(error.remedy(), Remedy::Retry);
        assert_eq!(store.objects().objects(), 0);
        store.settle().await;
        assert_eq!(store.objects().objects(), 1);
    });
}

#[test]
fn a_request_outlives_the_client_that_died_while_it_was_under_way() {
    World::run(1, async |world| {
        let store = world.store();
        let doomed = store.client("doomed");
        let put = daemon::spawn("put", async move {
            doomed.put_if_absent(&key("k"), "x".into(), PURPOSE).await
        });
        tokio::time::sleep(Duration::from_micros(500)).await;
        put.abort();
        assert!(put.await.unwrap_err().is_cancelled());
        assert_eq!(store.objects().objects(), 0);
        store.settle().await;
        assert_eq!(store.objects().objects(), 1);
    });
}

#[test]
fn a_lost_answer_leaves_the_object_there() {
    World::run(1, async |world| {
        let store = world.store();
        store.set_faults(StoreFaults {
            lost_after: 1.0,
            ..StoreFaults::CALM
        });
        store
            .put_if_absent(&key("k"), "x".into(), PURPOSE)
            .await
            .unwrap_err();
        assert_eq!(store.objects().objects(), 1);
    });
}

#[test]
fn a_retried_put_that_was_replaced_says_that_it_may_have_been_applied() {
    let mut seen = 0;
    for seed in 0..200 {
        World::run(seed, async |world| {
            let store = world.store();
            store.set_faults(StoreFaults {
                retried: 1.0,
                ..StoreFaults::CALM
            });
            let rival = store.client("rival");
            let key = key("k");
            let (put, ()) = tokio::join!(biased; store.put_if_absent(&key, "x".into(), PURPOSE), async {
                while rival.objects().objects() == 0 {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                rival.objects().delete(&key, PURPOSE).await.unwrap();
                rival.objects().put_if_absent(&key, "y".into(), PURPOSE).await.unwrap();
            });
            assert!(
                matches!(
                    put,
                    Err(PutError::Exists {
                        maybe_applied: true,
                        ..
                    })
                ),
                "seed {seed}: {put:?}"
            );
            seen += 1;
        });
    }
    assert_eq!(seen, 200);
}

#[test]
fn a_burst_refuses_and_passes() {
    World::run(1, async |world| {
        let store = world.store();
        store.set_faults(StoreFaults {
            burst: 1.0,
            ..StoreFaults::CALM
        });
        let mut refused = 0;
        for _ in 0..50 {
            match store.get(&key("k"), None, PURPOSE).await {
                Err(GetError::Unavailable {
                    source: Outage::Status { status: 503, .. },
                    ..
                }) => refused += 1,
                other => assert!(matches!(other, Err(GetError::NotFound { .. })), "{other:?}"),
            }
        }
        assert!(refused > 30, "{refused} of 50");
        store.set_faults(StoreFaults::CALM);
        assert!(matches!(
            store.get(&key("k"), None, PURPOSE).await,
            Err(GetError::NotFound { .. })
        ));
    });
}

#[test]
fn short_reads_are_errors_and_short_pages_say_that_there_is_more() {
    World::run(1, async |world| {
        let store = world.store();
        for name in ["a", "b", "c", "d"] {
            store
                .put_if_absent(&key(name), "bytes".into(), PURPOSE)
                .await
                .unwrap();
        }
        store.set_faults(StoreFaults {
            short: 1.0,
            ..StoreFaults::CALM
        });
        let short = store.get(&key("a"), None, PURPOSE).await.unwrap_err();
        assert!(
            matches!(
                short,
                GetError::Short {
                    expected_bytes: 5,
                    got_bytes: 0..5,
                    ..
                }
            ),
            "{short:?}"
        );
        let mut names = Vec::new();
        loop {
            let after = names.last().cloned();
            let page = store.list("", after.as_deref(), 10, PURPOSE).await.unwrap();
            names.extend(page.entries.into_iter().map(|entry| String::from(entry.key)));
            if !page.more {
                break;
            }
        }
        assert_eq!(names, ["a", "b", "c", "d"]);
    });
}

#[test]
fn a_client_that_is_cut_off_reaches_nothing_and_others_do() {
    World::run(1, async |world| {
        let (one, other) = (world.store(), world.store());
        drop(other);
        let other = one.client("other");
        one.set_connected(false);
        one.put_if_absent(&key("k"), "x".into(), PURPOSE)
            .await
            .unwrap_err();
        other.put_if_absent(&key("k"), "y".into(), PURPOSE).await.unwrap();
        one.set_connected(true);
        assert_eq!(one.get(&key("k"), None, PURPOSE).await.unwrap().bytes, "y");
    });
}

#[test]
fn latency_has_a_tail() {
    World::run(1, async |world| {
        let store = world.store();
        let mut times = Vec::new();
        for _ in 0..500 {
            let begin = Instant::now();
            store.delete(&key("k"), PURPOSE).await.unwrap();
            times.push(begin.elapsed());
        }
        times.sort();
        assert!(times[0] >= Duration::from_millis(4));
        assert!(times[250] < Duration::from_millis(20), "{:?}", times[250]);
        assert!(times[495] > Duration::from_millis(50), "{:?}", times[495]);
    });
}
