use std::collections::BTreeMap;

use super::*;
use crate::token::{self, Grant};

fn now() -> jiff::Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

async fn new_app(store: &Store, name: &str, key: Option<&str>) -> CreateApp {
    let organization_id = store.ensure_organization("personal".to_owned()).await.unwrap().id;
    let new = NewApp {
        name: name.to_owned(),
        organization_id,
        network: "default".to_owned(),
        app_role: String::new(),
        idempotency_key: key.map(str::to_owned),
    };
    store.create_app(new, now()).await.unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    {
        let store = Store::open(&path).unwrap();
        new_app(&store, "a1", None).await;
        store.set_root_token(token::hash("t"), now()).await.unwrap();
    }
    let store = Store::open(&path).unwrap();
    let app = store.app("a1".to_owned()).await.unwrap().unwrap();
    assert_eq!(
        (app.name.as_str(), app.organization.slug.as_str(), app.created_at),
        ("a1", "personal", now())
    );
    assert_eq!(store.tokens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_catalog_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    drop(Store::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::TooNew { found: 99, .. })
    ));
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_app_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("catalog.db")).unwrap();
    let first = new_app(&store, "a1", Some("k")).await;
    assert_eq!(new_app(&store, "a1", Some("k")).await, first);
    assert_eq!(new_app(&store, "a1", None).await, CreateApp::NameTaken);
    assert_eq!(
        new_app(&store, "a2", Some("k")).await,
        CreateApp::KeyReused {
            other: "a1".to_owned()
        }
    );
}

#[tokio::test]
async fn a_new_root_token_ends_the_old_one_and_spares_app_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("catalog.db")).unwrap();
    let CreateApp::Made(app) = new_app(&store, "a1", None).await else {
        panic!("made")
    };
    store.set_root_token(token::hash("old"), now()).await.unwrap();
    store
        .add_app_token(token::hash("app"), app.id, now(), None)
        .await
        .unwrap();
    store.set_root_token(token::hash("new"), now()).await.unwrap();
    let rows = store.tokens().await.unwrap();
    assert_eq!(token::grant(&["old"], &rows, now()), None);
    assert_eq!(token::grant(&["new"], &rows, now()), Some(Grant::Root));
    assert_eq!(
        token::grant(&["app"], &rows, now()),
        Some(Grant::App { app_id: app.id })
    );
    store.remove_app(app.id).await.unwrap();
    assert_eq!(
        token::grant(&["app"], &store.tokens().await.unwrap(), now()),
        None
    );
}

#[tokio::test]
async fn digests_follow_values_and_versions_count_changes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("catalog.db")).unwrap();
    let CreateApp::Made(app) = new_app(&store, "a1", None).await else {
        panic!("made")
    };
    let change = |value: Option<&str>| BTreeMap::from([("K".to_owned(), value.map(str::to_owned))]);
    assert_eq!(
        store
            .change_secrets(app.id, change(Some("v")), now())
            .await
            .unwrap(),
        1
    );
    let first = store.secrets(app.id).await.unwrap().remove(0);
    assert_eq!(first.value, "v");
    assert_eq!(
        store
            .change_secrets(app.id, change(Some("w")), now())
            .await
            .unwrap(),
        2
    );
    assert_ne!(store.secrets(app.id).await.unwrap()[0].digest, first.digest);
    assert_eq!(
        store.change_secrets(app.id, change(None), now()).await.unwrap(),
        3
    );
    assert_eq!(store.secrets(app.id).await.unwrap(), []);
}
