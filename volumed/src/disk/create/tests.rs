#![allow(clippy::unwrap_used)]

use objstore::MemoryStore;

use super::super::settings::RING_BYTES_MIN;
use super::*;

fn settings(cluster_key: &ClusterKey, size_bytes: u64) -> Settings {
    let volume = VolumeId::parse("vol_0123456789abcdef").unwrap();
    let wrapped = cluster_key.wrap(volume.as_str(), &DataKey::generate(&OsRandom), &OsRandom);
    let slice = SliceSettings::new("/nowhere".into(), RING_BYTES_MIN, 0);
    Settings::new(volume, size_bytes, wrapped, slice)
}

#[tokio::test]
async fn a_disk_is_made_once_and_another_key_does_not_take_its_place() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let cluster_key = ClusterKey::generate(&OsRandom);
    let first = settings(&cluster_key, 1 << 20);
    assert_eq!(
        wrapped_key(Arc::clone(&store), &first.volume_id).await.unwrap(),
        None
    );
    create(Arc::clone(&store), &cluster_key, &first).await.unwrap();
    create(Arc::clone(&store), &cluster_key, &first).await.unwrap();
    let there = wrapped_key(Arc::clone(&store), &first.volume_id).await.unwrap();
    assert_eq!(there, Some(first.wrapped_key));
    let second = create(store, &cluster_key, &settings(&cluster_key, 1 << 20)).await;
    assert!(matches!(second, Err(CreateError::Damaged { .. })), "{second:?}");
}
