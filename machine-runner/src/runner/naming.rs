//! Tells running guests the names of their network when they change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Runner;
use crate::lifecycle::State;

/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(3);

pub(super) async fn push_names(runner: Arc<Runner>, mut renames: mpsc::Receiver<String>) {
    while let Some(first) = renames.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut networks = BTreeSet::from([first]);
        while let Ok(more) = renames.try_recv() {
            networks.insert(more);
        }
        for network in networks {
            runner.task("push_names", push(Arc::clone(&runner), network));
        }
    }
}

async fn push(runner: Arc<Runner>, network: String) {
    let records = runner.names_of(&network);
    let views = runner.machines().into_iter().map(|handle| handle.view());
    let started = views.filter(|view| view.record.network == network && view.record.state == State::Started);
    let calls = started.map(|view| {
        let (shim, records, id) = (
            runner.shim(&view.record.id),
            records.clone(),
            view.record.id.clone(),
        );
        async move { shim.names(&records).await.map_err(|error| (id, error)) }
    });
    let mut failed = false;
    for result in futures_util::future::join_all(calls).await {
        if let Err((machine_id, error)) = result {
            failed = true;
            tracing::warn!(%machine_id, %error, "a guest did not take the network's names");
        }
    }
    if failed {
        tokio::time::sleep(RETRY).await;
        runner.rename(&network);
    }
}
