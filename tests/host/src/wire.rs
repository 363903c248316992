//! What the harness and the guest tell each other: one JSON message a line, over a virtio-serial port.

use serde::{Deserialize, Serialize};

use crate::case::Part;

/// The port's name.
pub(crate) const PORT: &str = "tier.0";

/// From the harness.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToGuest {
    /// Run this test; the answer is [`FromGuest::Done`] with the same `id`.
    Run(Run),
}

/// A test to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Chosen by the harness, different for all tests of one guest.
    pub(crate) id: usize,
    /// The test's name.
    pub(crate) case: String,
    /// Which of its functions.
    pub(crate) part: Part,
    /// Decides whatever the test leaves to chance.
    pub(crate) seed: u64,
    /// Whether it may take long.
    pub(crate) long: bool,
    /// What was acknowledged before the power was cut.
    pub(crate) acknowledged: Vec<String>,
    /// The test's own disk, as the guest calls it.
    pub(crate) disk: String,
}

/// From the guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromGuest {
    /// The guest is up and waits for tests.
    Ready,
    /// A test ended.
    Done {
        /// Which.
        id: usize,
        /// Why it failed; `None` when it passed.
        failure: Option<String>,
        /// Every command it ran, with what it printed.
        transcript: String,
    },
    /// From here on the power may be cut.
    Armed {
        /// The test that says so.
        id: usize,
    },
    /// Something is done for good.
    Acknowledged {
        /// The test that says so.
        id: usize,
        /// What, in the test's own words.
        what: String,
    },
    /// Text that a test wants kept on the host.
    Record {
        /// Becomes the file's name.
        name: String,
        /// Its content.
        text: String,
    },
}
