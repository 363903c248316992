//! Over loopback: our own client with the whole probe, then the protocol by an unmodified SDK client.

mod large;
mod protocol;
mod proxy;

use std::net::SocketAddr;

use bytes::Bytes;
use crashsafe::{RealDisk, Recorder};
use objstore::{
    ETag, GetError, Key, Metrics, ObjectStore as _, Purpose, PutError, Remedy, Retries, S3Config, S3Store,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::proxy::{Harm, Proxy};
use super::*;
use crate::credentials::Credential;

const TEST: Purpose = Purpose("test");
const BUCKET: &str = "hangar";

/// A served endpoint; stopped when dropped, its directory kept by the test.
struct Served {
    endpoint: Endpoint,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: Option<tokio::task::JoinHandle<io::Result<()>>>,
}

impl Served {
    async fn start(root: &Path) -> Self {
        Self::start_on(root, Arc::new(RealDisk)).await
    }

    async fn start_on(root: &Path, disk: Arc<dyn Disk>) -> Self {
        let endpoint = Endpoint::open(EndpointConfig::new(root, BUCKET), disk).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (serving, token) = (endpoint.clone(), shutdown.clone());
        let task = daemon::spawn("s3-endpoint", async move {
            serving.serve(Listener::Tcp(listener), token).await
        });
        Self {
            endpoint,
            address,
            shutdown,
            task: Some(task),
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    fn root_credential(&self) -> Credential {
        self.endpoint.credentials().root().unwrap()
    }

    fn config(&self, credential: &Credential) -> S3Config {
        let endpoint = format!("http://{}", self.address);
        let retries = Retries {
            attempts_max: 2,
            delay_ms_min: 1,
            delay_ms_max: 2,
        };
        let Credential {
            access_key_id,
            secret_access_key,
            ..
        } = credential;
        S3Config {
            retries,
            ..S3Config::new(&endpoint, BUCKET, access_key_id, secret_access_key)
        }
    }

    /// A client of ours that reaches the endpoint through a harmful connection.
    async fn store_through(&self, proxy: &Proxy) -> S3Store {
        let endpoint = Some(format!("http://{}", proxy.address()));
        let config = S3Config {
            endpoint,
            ..self.config(&self.root_credential())
        };
        S3Store::connect(config, Metrics::unregistered()).await.unwrap()
    }

    async fn store(&self) -> S3Store {
        S3Store::connect(self.config(&self.root_credential()), Metrics::unregistered())
            .await
            .unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_probe_passes_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let credential = served.root_credential();
    for prefix in ["", "tenants/a"] {
        let config = S3Config {
            prefix: prefix.to_owned(),
            ..served.config(&credential)
        };
        let store = S3Store::connect(config, Metrics::unregistered()).await.unwrap();
        store.probe("probe/1").await.unwrap();
        assert!(store.list("", None, 10, TEST).await.unwrap().entries.is_empty());
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_outlive_a_restart_and_a_second_process_is_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let etag = served
        .store()
        .await
        .put_if_absent(&key("a/b"), Bytes::from_static(b"kept"), TEST)
        .await
        .unwrap();
    let second = Endpoint::open(EndpointConfig::new(directory.path(), BUCKET), Arc::new(RealDisk));
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    let credential = served.root_credential();
    served.stop().await;
    let served = Served::start(directory.path()).await;
    assert_eq!(served.root_credential(), credential);
    let store = served.store().await;
    let object = store.get(&key("a/b"), None, TEST).await.unwrap();
    assert_eq!((object.bytes, object.etag), (Bytes::from_static(b"kept"), etag));
    let exists = store
        .put_if_absent(&key("a/b"), Bytes::from_static(b"other"), TEST)
        .await;
    assert!(
        matches!(
            exists,
            Err(PutError::Exists {
                maybe_applied: false,
                ..
            })
        ),
        "{exists:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let root = served.root_credential();
    let wrong = [
        Credential {
            secret_access_key: "wrong".to_owned(),
            ..root.clone()
        },
        Credential {
            access_key_id: "nobody".to_owned(),
            ..root
        },
    ];
    for credential in wrong {
        let store = S3Store::connect(served.config(&credential), Metrics::unregistered())
            .await
            .unwrap();
        match store
            .put_if_absent(&key("a"), Bytes::from_static(b"x"), TEST)
            .await
        {
            Err(PutError::Refused { source, .. }) => assert_eq!(source.status, 403, "{source}"),
            other => panic!("{other:?}"),
        }
    }
    let answer = raw(
        served.address,
        "GET /hangar/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_sees_and_touches_only_its_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let all = served.store().await;
    for name in ["volumes/1", "other/1", "volumes2/1"] {
        all.put_if_absent(&key(name), Bytes::from_static(b"x"), TEST)
            .await
            .unwrap();
    }
    let issued = served
        .endpoint
        .credentials()
        .issue("volumed", "volumes/")
        .unwrap();
    let store = S3Store::connect(served.config(&issued), Metrics::unregistered())
        .await
        .unwrap();
    let entries = store.list("", None, 10, TEST).await.unwrap().entries;
    assert_eq!(
        entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
        ["volumes/1"]
    );
    store
        .put_if_absent(&key("volumes/2"), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap();
    for name in ["other/1", "volumes2/1"] {
        let get = store.get(&key(name), None, TEST).await.unwrap_err();
        assert_eq!(get.remedy(), Remedy::FixRequest, "{get:?}");
        assert!(store.delete(&key(name), TEST).await.is_err());
        assert!(
            store
                .put_if_absent(&key(name), Bytes::from_static(b"y"), TEST)
                .await
                .is_err()
        );
        assert_eq!(all.get(&key(name), None, TEST).await.unwrap().bytes, "x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_on_the_disk_is_told_as_damage_and_not_as_an_outage() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let store = served.store().await;
    store
        .put_if_absent(&key("a"), vec![7; 300_000].into(), TEST)
        .await
        .unwrap();
    let objects = directory.path().join("buckets").join(BUCKET).join("objects");
    let name = RealDisk.list(&objects).unwrap().remove(0).name;
    let file = RealDisk
        .open("test", &objects.join(name), crashsafe::OpenOptions::READ_WRITE)
        .unwrap();
    file.write_at(&[6], 200_000).unwrap();
    let error = store.get(&key("a"), None, TEST).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixData, "{error:?}");
    let GetError::Refused { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(source.is_damage() && source.status == 422, "{source}");
    assert!(source.message.contains("crc32 of block 3"), "{source}");
    // Blocks that are whole are still readable.
    assert_eq!(
        store.get(&key("a"), Some(0..100), TEST).await.unwrap().bytes,
        vec![7; 100]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_off_in_the_middle_of_a_put_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let through = Proxy::start(served.address, |_| Harm::CutRequestAfter(1 << 20)).await;
    let store = served.store_through(&through).await;
    let put = store
        .put_if_absent(&key("cut"), Bytes::from(vec![5; 8 << 20]), TEST)
        .await;
    assert!(
        matches!(put, Err(PutError::Unavailable { attempts: 2, .. })),
        "{put:?}"
    );
    let get = served.store().await.get(&key("cut"), None, TEST).await;
    assert!(matches!(get, Err(GetError::NotFound { .. })), "{get:?}");
    through.stop().await;
    served.stop().await;
    let tmp = directory.path().join("buckets").join(BUCKET).join("tmp");
    assert!(
        RealDisk.list(&tmp).unwrap().is_empty(),
        "not only swept at the next start"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_answer_is_lost_on_the_way_is_recognised_by_its_nonce() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let lose_first = |connection| {
        if connection == 0 {
            Harm::LoseAnswer
        } else {
            Harm::None
        }
    };
    let through = Proxy::start(served.address, lose_first).await;
    let body = Bytes::from_static(b"mine");
    let etag = served
        .store_through(&through)
        .await
        .put_if_absent(&key("a"), body, TEST)
        .await
        .unwrap();
    assert_eq!(
        served
            .store()
            .await
            .get(&key("a"), None, TEST)
            .await
            .unwrap()
            .etag,
        etag
    );
    through.stop().await;

    let through = Proxy::start(served.address, lose_first).await;
    let body = Bytes::from_static(b"mine again");
    let replaced = served
        .store_through(&through)
        .await
        .put_if_match(&key("a"), &etag, body, TEST)
        .await
        .unwrap();
    assert_eq!(
        served
            .store()
            .await
            .get(&key("a"), None, TEST)
            .await
            .unwrap()
            .etag,
        replaced
    );
    through.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_on_its_way_down_is_short_and_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let body = Bytes::from(vec![5; 1 << 20]);
    served
        .store()
        .await
        .put_if_absent(&key("a"), body.clone(), TEST)
        .await
        .unwrap();
    let through = Proxy::start(served.address, |_| Harm::CutAnswerAfter(100_000)).await;
    let get = served
        .store_through(&through)
        .await
        .get(&key("a"), None, TEST)
        .await;
    assert!(
        matches!(
            get,
            Err(GetError::Short {
                expected_bytes: 1_048_576,
                ..
            })
        ),
        "{get:?}"
    );
    through.stop().await;
    let cut_first = |connection| {
        if connection == 0 {
            Harm::CutAnswerAfter(100_000)
        } else {
            Harm::None
        }
    };
    let through = Proxy::start(served.address, cut_first).await;
    let get = served
        .store_through(&through)
        .await
        .get(&key("a"), None, TEST)
        .await
        .unwrap();
    assert!(get.bytes == body);
    through.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_acknowledged_over_the_wire_survive_a_power_cut_at_any_event() {
    use rand::SeedableRng as _;
    let directory = tempfile::tempdir().unwrap();
    Served::start(directory.path()).await.stop().await;
    let recorder = Arc::new(Recorder::new(RealDisk, directory.path()).unwrap());
    let served = Served::start_on(directory.path(), recorder.clone()).await;
    let store = served.store().await;
    let first = store
        .put_if_absent(&key("HEAD"), Bytes::from_static(b"epoch 1"), TEST)
        .await
        .unwrap();
    recorder.mark("first", first.as_str().as_bytes());
    let second = store
        .put_if_match(&key("HEAD"), &first, Bytes::from_static(b"epoch 2"), TEST)
        .await
        .unwrap();
    recorder.mark("second", second.as_str().as_bytes());
    served.stop().await;
    let log = recorder.log();
    for events in 0..=log.len() {
        for seed in 0..3 {
            let cut = log.cut(events, &mut rand::rngs::StdRng::seed_from_u64(seed));
            let directory = tempfile::tempdir().unwrap();
            cut.write(&RealDisk, directory.path()).unwrap();
            let served = Served::start(directory.path()).await;
            let found = served.store().await.get(&key("HEAD"), None, TEST).await;
            let (first_done, second_done) = (cut.last_marker("first"), cut.last_marker("second"));
            match &found {
                Ok(object) if object.bytes == "epoch 2" => assert_eq!(object.etag, second),
                Ok(object) if object.bytes == "epoch 1" => {
                    assert_eq!(object.etag, first);
                    assert!(second_done.is_none(), "event {events} seed {seed}: went back");
                }
                Err(GetError::NotFound { .. }) => {
                    assert!(first_done.is_none(), "event {events} seed {seed}: gone");
                }
                other => panic!("event {events} seed {seed}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_from_page_to_page() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let store = served.store().await;
    let names: Vec<String> = (0..23)
        .map(|number| format!("p/{number:02} ü+%&<\u{7f}>").replace('\u{7f}', "x"))
        .collect();
    for name in &names {
        store
            .put_if_absent(&key(name), Bytes::from_static(b"x"), TEST)
            .await
            .unwrap();
    }
    let (mut seen, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = store.list("p/", after.as_deref(), 5, TEST).await.unwrap();
        assert!(
            page.entries
                .iter()
                .all(|entry| entry.size_bytes == 1 && entry.etag.as_str().ends_with("-1\""))
        );
        seen.extend(
            page.entries
                .into_iter()
                .map(|entry| entry.key.as_str().to_owned()),
        );
        after = seen.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, names);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_etag_is_refused_and_a_missing_bucket_is_not_a_missing_object() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let store = served.store().await;
    store
        .put_if_absent(&key("a"), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap();
    let stale = store
        .put_if_match(&key("a"), &ETag::new("\"stale\""), Bytes::from_static(b"y"), TEST)
        .await;
    assert!(matches!(stale, Err(PutError::Stale { .. })), "{stale:?}");
    let config = S3Config {
        bucket: "nowhere".to_owned(),
        ..served.config(&served.root_credential())
    };
    let store = S3Store::connect(config, Metrics::unregistered()).await.unwrap();
    let get = store.get(&key("a"), None, TEST).await;
    assert!(matches!(get, Err(GetError::Refused { .. })), "{get:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_serves_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::open(
        EndpointConfig::new(directory.path().join("s3"), BUCKET),
        Arc::new(RealDisk),
    )
    .unwrap();
    let socket = directory.path().join("s3.sock");
    let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let task = daemon::spawn(
        "s3-endpoint",
        async move { endpoint.serve(listener, token).await },
    );
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("AccessDenied"), "{answer}");
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn a_bucket_name_that_s3_does_not_allow_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["", "A", "../up", "a/b", "ab"] {
        let opened = Endpoint::open(EndpointConfig::new(directory.path(), name), Arc::new(RealDisk));
        assert!(matches!(opened, Err(OpenError::BucketName { .. })), "{name:?}");
    }
}

/// Sends a request as text and returns the answer as text.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
