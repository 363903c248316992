use std::path::Path;
use std::time::Duration;

use rand::RngExt as _;

use super::*;

async fn body(world: World) {
    let disk = world.disk("host", 1 << 20);
    let mut rng = world.rng("program");
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..1_000))).await;
        disk.cut_power_after(rng.random_range(0..6));
        // Lost or not: the disk's own tests say which is right.
        let _either = crashsafe::write_atomic(&disk, "t", Path::new("/state"), &[rng.random()], 0o600);
        disk.reboot();
    }
    world.trace().event(format_args!(
        "{:?} after {:?}",
        disk.seen(),
        world.clock().elapsed()
    ));
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_makes_another() {
    for seed in 0..20 {
        assert_eq!(World::run(seed, body).1, World::run(seed, body).1, "seed {seed}");
    }
    assert_ne!(World::run(1, body).1, World::run(2, body).1);
}

#[test]
fn hours_of_a_world_take_no_time() {
    let (elapsed, _) = World::run(1, async |world: World| {
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        world.clock().elapsed()
    });
    assert_eq!(elapsed, Duration::from_secs(86_400));
}

#[test]
fn a_soak_reports_the_seed_that_failed_and_how_to_replay_it() {
    let report = soak("disk", 10, 5, async |world: World| {
        world.trace().event(format_args!("thinking of {}", world.seed()));
        assert!(world.seed() != 12, "twelve is unlucky");
    });
    assert_eq!(
        report.to_string(),
        "    thinking of 12\n\
         seed 12: twelve is unlucky\n\
         replay: cargo xtask soak disk --seeds 1 --from 12\n\
         soak disk: 4 passed, 1 failed"
    );
}
