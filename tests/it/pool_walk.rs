//! A file pool on a real disk beside a model.

use crashsafe::{Disk, RealDisk};
use it::pool_walk::Walk;
use std::sync::Arc;
use volumed::bulk::{Images, Workers};
use volumed::pool::file::{Allocation, FilePool, FilePoolConfig};
use volumed::pool::{Capacity, Pool, PressureRules};
use volumed::random::OsRandom;

const STEPS: u32 = 10_000;
const UNIT_BYTES: u64 = 8 << 20;

#[tokio::test]
async fn ten_thousand_random_calls_of_a_file_pool_do_as_a_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let images = Images::new(Arc::clone(&disk), None, Workers::inline());
        let config = FilePoolConfig {
            name: "walked".to_owned(),
            path: dir.path().join("pool"),
            allocation: Allocation::Sparse,
            capacity: Capacity {
                reserve_bytes: 0,
                overcommit_ratio: 1.0,
            },
            pressure: PressureRules::default(),
        };
        let pool = FilePool::open(config, disk, images, Workers::inline(), Arc::new(OsRandom)).await;
        Arc::new(pool.unwrap()) as Arc<dyn Pool>
    };
    Walk::new(4, UNIT_BYTES).walk(STEPS, open).await.unwrap();
}
