use bytes::Bytes;
use objstore::MemoryStore;

use super::*;

#[tokio::test]
async fn everything_of_the_disk_goes_and_nothing_of_another() {
    let store = MemoryStore::new();
    let (ours, other): (VolumeId, VolumeId) = (
        VolumeId::parse("vol_0123456789abcdef").unwrap(),
        VolumeId::parse("vol_0123456789abcdeg").unwrap(),
    );
    let put = async |volume: &VolumeId, name: &str| {
        let key = super::super::store::checked(format!("disk/{}/{name}", disk_id(volume)));
        store
            .put_if_absent(&key, Bytes::from_static(b"x"), PURPOSE)
            .await
            .unwrap();
    };
    let names: Vec<String> = (0..2500).map(|n| format!("d/{n:016x}-00000001")).collect();
    for name in &names {
        put(&ours, name).await;
    }
    put(&ours, "HEAD").await;
    put(&ours, "released-00000001").await;
    put(&other, "HEAD").await;

    erase(&store, &ours).await.unwrap();
    erase(&store, &ours).await.unwrap();
    let left = store.list("disk/", None, LIST_PAGE, PURPOSE).await.unwrap();
    let left: Vec<&str> = left.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(left, [format!("disk/{}/HEAD", disk_id(&other))]);
}
