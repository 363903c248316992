use std::sync::{Arc, Mutex};

use operation::{Log as _, LogError, OperationId, Record, Status};
use serde_json::json;

use super::*;
use crate::lifecycle::tests::volume;
use crate::testing::START;
use crate::volume::VolumeState;

fn clock() -> Arc<daemon::wall_clock::ManualClock> {
    Arc::new(daemon::wall_clock::ManualClock::new(START.parse().unwrap()))
}

fn record(id: &str, subject: &str) -> Record {
    Record::new(OperationId::new(id), subject, "create", 1, json!({}))
}

#[tokio::test]
async fn a_volume_survives_closing_and_opening_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let kept = volume(VolumeState::Created);
    {
        let catalog = Catalog::open(&path, 8).unwrap();
        let put = kept.clone();
        catalog
            .transact(move |tx| Ok(tx.put_volume(&put)?))
            .await
            .unwrap();
    }
    let catalog = Catalog::open(&path, 8).unwrap();
    let found = catalog.transact(|tx| Ok(tx.volumes()?)).await.unwrap();
    assert_eq!(found, [kept]);
}

#[tokio::test]
async fn the_file_is_opened_in_wal_mode_with_full_sync() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let catalog = Catalog::open(&path, 8).unwrap();
    catalog
        .transact(|tx| Ok(tx.set_setting("a", "b")?))
        .await
        .unwrap();
    let second = rusqlite::Connection::open(&path).unwrap();
    let mode: String = second.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_refused_transaction_changes_nothing() {
    let catalog = Catalog::in_memory(None, None).unwrap();
    let put = volume(VolumeState::Created);
    let refused: Result<(), TxError> = catalog
        .transact(move |tx| {
            tx.put_volume(&put)?;
            Err(Refusal::invalid("no").into())
        })
        .await;
    assert!(matches!(refused, Err(TxError::Refused(_))));
    assert_eq!(catalog.transact(|tx| Ok(tx.volumes()?)).await.unwrap(), []);
}

#[tokio::test]
async fn a_catalog_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    drop(Catalog::open(&path, 8).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        Catalog::open(&path, 8),
        Err(OpenError::TooNew { found: 99, .. })
    ));
}

#[tokio::test]
async fn a_step_and_its_change_commit_together_or_not_at_all() {
    let catalog = Catalog::in_memory(None, None).unwrap();
    let log = CatalogLog::new(catalog.clone(), clock());
    let (new, id) = (volume(VolumeState::Creating), volume(VolumeState::Creating).id);
    log.begin(
        &record("op1", id.as_str()),
        Change::new(move |tx| Ok(tx.put_volume(&new)?)),
    )
    .await
    .unwrap();
    let mut done = record("op1", id.as_str());
    done.status = Status::Done;
    let broken = id.clone();
    let refused = log
        .advance(
            &done,
            Change::new(move |tx| {
                tx.edit_volume(&broken, |v| v.state = VolumeState::Created)?;
                Err(Refusal::internal("as the test asked").into())
            }),
        )
        .await;
    assert!(refused.is_err());
    let wanted = id.clone();
    let state = catalog
        .transact(move |tx| Ok(tx.volume(&wanted)?.unwrap().state))
        .await
        .unwrap();
    assert_eq!(state, VolumeState::Creating);
    assert_eq!(log.pending().await.unwrap().len(), 1);
    let change = Change::new(move |tx| {
        tx.edit_volume(&id, |v| v.state = VolumeState::Created)?;
        Ok(())
    });
    log.advance(&done, change).await.unwrap();
    assert!(log.pending().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_subject_has_one_running_operation() {
    let catalog = Catalog::in_memory(None, None).unwrap();
    let log = CatalogLog::new(catalog, clock());
    log.begin(&record("op1", "vol_a"), Change::default())
        .await
        .unwrap();
    let second = log.begin(&record("op2", "vol_a"), Change::default()).await;
    assert!(matches!(second, Err(LogError::Busy { .. })));
    log.begin(&record("op3", "vol_b"), Change::default())
        .await
        .unwrap();
    let mut ended = record("op1", "vol_a");
    ended.status = Status::Done;
    log.advance(&ended, Change::default()).await.unwrap();
    log.begin(&record("op4", "vol_a"), Change::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_bytes_handed_out_at_a_commit_are_the_catalog() {
    let images: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&images);
    let hook: CommitHook = Arc::new(move |image: &[u8]| kept.lock().unwrap().push(image.to_vec()));
    let catalog = Catalog::in_memory(None, Some(hook)).unwrap();
    for n in ["1", "2"] {
        catalog
            .transact(move |tx| Ok(tx.set_setting("n", n)?))
            .await
            .unwrap();
    }
    let images = images.lock().unwrap().clone();
    assert_eq!(images.len(), 3, "one at the start, one a commit");
    for (image, expected) in images.iter().zip([None, Some("1"), Some("2")]) {
        let again = Catalog::in_memory(Some(image), None).unwrap();
        let found = again.transact(|tx| Ok(tx.setting("n")?)).await.unwrap();
        assert_eq!(found.as_deref(), expected);
    }
}

#[tokio::test]
async fn history_is_trimmed_and_running_operations_are_not() {
    let catalog = Catalog::in_memory(None, None).unwrap();
    let log = CatalogLog::new(catalog.clone(), clock());
    log.begin(&record("op0", "vol_running"), Change::default())
        .await
        .unwrap();
    for n in 1..20 {
        let mut r = record(&format!("op{n}"), "vol_a");
        log.begin(&r, Change::default()).await.unwrap();
        r.status = Status::Done;
        log.advance(&r, Change::default()).await.unwrap();
    }
    catalog.transact(|tx| Ok(tx.trim_history(5)?)).await.unwrap();
    let left = catalog
        .transact(|tx| Ok(tx.operations(None, 100)?))
        .await
        .unwrap();
    assert_eq!(left.len(), 6);
    assert_eq!(log.pending().await.unwrap().len(), 1);
}
