#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use log_disk::{
    BLOCK_BYTES, Compression, Epoch, Lba, ObjectHeader, ObjectKind, ObjectSeq, Salt, Seq, Source, SourceRun,
    ToSeal, seal_object,
};
use objstore::{Key, MemoryStore, Purpose};

use super::*;
use crate::keys::DataKey;
use crate::random::OsRandom;

const TEST: Purpose = Purpose("test");

struct Bucket {
    store: Arc<MemoryStore>,
    cluster_key: ClusterKey,
    volume: VolumeId,
}

impl Bucket {
    /// One disk of 100 blocks, with one data object that fills the first four with 7.
    async fn new() -> Self {
        let volume = VolumeId::parse("vol_0123456789abcdef").unwrap();
        let disk = disk_id(&volume);
        let cluster_key = ClusterKey::generate(&OsRandom);
        let data_key = DataKey::generate(&OsRandom);
        let wrapped = cluster_key
            .wrap(volume.as_str(), &data_key, &OsRandom)
            .to_bytes()
            .to_vec();
        let sealer = data_key.disk_sealer(disk);
        let head = Head::new(disk, 100, wrapped.clone()).encode(&sealer, Salt([1; 8]));
        let source = Source::Object {
            object: ObjectSeq(0),
            at: 0,
        };
        let run = ToSeal {
            lba: Lba(0),
            blocks: 4,
            origin: ObjectSeq(0),
            sources: vec![SourceRun { blocks: 4, source }],
        };
        let header = ObjectHeader {
            kind: ObjectKind::Data,
            disk,
            epoch: Epoch(1),
            seq: ObjectSeq(1),
            previous: ObjectSeq(0),
            journal_seq: Seq(1),
            size_blocks: 100,
            salt: Salt([1; 8]),
            wrapped_key: wrapped,
        };
        let data = [Bytes::from(vec![7; 4 * BLOCK_BYTES])];
        let object = seal_object(&sealer, Compression::Lz4, header, &[run], &data);
        let store = Arc::new(MemoryStore::new());
        let name = ObjectName {
            role: Role::Data,
            seq: ObjectSeq(1),
            epoch: Epoch(1),
        };
        for (key, body) in [(head_key(disk), Bytes::from(head)), (name.key(disk), object.body)] {
            store
                .put_if_absent(&Key::new(key).unwrap(), body, TEST)
                .await
                .unwrap();
        }
        Self {
            store,
            cluster_key,
            volume,
        }
    }

    async fn tools(&self) -> Result<Tools, ToolError> {
        let cluster_key = ClusterKey::from_bytes(*self.cluster_key.to_bytes());
        Tools::over(
            Arc::clone(&self.store) as Arc<dyn ObjectStore>,
            cluster_key,
            &self.volume,
        )
        .await
    }

    async fn lose_head(&self) {
        let key = Key::new(head_key(disk_id(&self.volume))).unwrap();
        self.store.delete(&key, TEST).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_a_head_is_told_and_salvaged_into_a_new_file_only() {
    let bucket = Bucket::new().await;
    bucket.lose_head().await;
    let checked = bucket.tools().await.unwrap().fsck(true).await.unwrap();
    let told = checked.to_string();
    assert!(
        checked.is_damaged() && told.contains("/HEAD: there is no HEAD; restore it"),
        "{told}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image");
    let salvaged = bucket.tools().await.unwrap().salvage(&file, false).await.unwrap();
    assert!(!salvaged.is_damaged() && salvaged.to_string().contains("as of data object 1"));
    let image = std::fs::read(&file).unwrap();
    assert_eq!(image.len(), 100 * BLOCK_BYTES);
    assert!(image[..4 * BLOCK_BYTES].iter().all(|byte| *byte == 7));
    assert!(image[4 * BLOCK_BYTES..].iter().all(|byte| *byte == 0));
    let again = bucket.tools().await.unwrap().salvage(&file, false).await;
    assert!(matches!(again, Err(ToolError::File { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_objects_are_printed_and_what_is_no_object_is_said() {
    let bucket = Bucket::new().await;
    let dump = async |subject| bucket.tools().await.unwrap().dump(subject).await;
    assert!(dump(Subject::Head).await.unwrap().contains("size 100 blocks"));
    let object = Subject::Object("d/0000000000000001-00000001".into());
    assert!(
        dump(object)
            .await
            .unwrap()
            .contains("1 extents, 4 blocks with data")
    );
    let missing = dump(Subject::Object("g/0000000000000001-00000001".into())).await;
    assert!(matches!(missing, Err(ToolError::NoObject { .. })), "{missing:?}");
    let name = dump(Subject::Object("d/1".into())).await;
    assert!(matches!(name, Err(ToolError::Name { .. })), "{name:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_the_volume_is_told_by_name() {
    let mut bucket = Bucket::new().await;
    bucket.volume = VolumeId::parse("vol_fedcba9876543210").unwrap();
    let nothing = bucket.tools().await.map(drop).unwrap_err();
    assert!(nothing.to_string().contains("vol_fedcba9876543210"), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_not_called_damaged_for_what_lies_with_the_disk_that_it_began_as() {
    let bucket = Bucket::new().await;
    let disk = disk_id(&bucket.volume);
    let key = Key::new(head_key(disk)).unwrap();
    let tools = bucket.tools().await.unwrap();
    let there = bucket.store.get(&key, None, TEST).await.unwrap();
    let mut head = Head::decode(&tools.sealer, &there.bytes).unwrap();
    head.revision += 1;
    head.checkpoint = Some(log_disk::CheckpointRef {
        number: 1,
        seq: ObjectSeq(1),
        epoch: Epoch(1),
        front_bytes: 100,
        total_bytes: 100,
        data_seq: ObjectSeq(1),
    });
    head.bases.push(log_disk::Base {
        disk: DiskId(*b"fedcba9876543210"),
        last: ObjectSeq(1),
        number: 1,
        wrapped_key: head.wrapped_key.clone(),
    });
    let body = head.encode(&tools.sealer, Salt([2; 8]));
    bucket
        .store
        .put_if_match(&key, &there.etag, body.into(), TEST)
        .await
        .unwrap();
    let refused = bucket.tools().await.unwrap().fsck(false).await.unwrap_err();
    assert!(refused.to_string().contains("vol_fedcba9876543210"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let image = bucket
        .tools()
        .await
        .unwrap()
        .salvage(&dir.path().join("image"), false)
        .await;
    assert!(matches!(image, Err(ToolError::Forked { .. })), "{image:?}");
}
