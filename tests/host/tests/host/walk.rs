//! A thin pool beside a model.

use std::sync::Arc;

use host_tests::Guest;
use it::pool_walk::Walk;
use volumed::pool::Pool;

use crate::pool::{MIB, open, prepare, thin};

/// Random calls, 300 in the long set.
pub(crate) fn random_calls_of_a_thin_pool_do_as_a_model_says(guest: &Guest) {
    prepare(guest);
    let steps = if guest.is_long() { 300 } else { 40 };
    let open = async || Arc::new(open(guest, thin(512)).await) as Arc<dyn Pool>;
    let walked = guest.block_on(Walk::new(4, 64 * MIB).walk(steps, open));
    walked.unwrap_or_else(|why| panic!("{why}"));
}
