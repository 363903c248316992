//! What general S3 clients do, by an SDK client with its own settings: trailers, paging, multipart.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, Delete, EncodingType, MetadataDirective, ObjectIdentifier,
};

use super::{BUCKET, Served};

/// An SDK client as anyone would set it up.
fn client(served: &Served) -> Client {
    let credential = served.root_credential();
    let keys = aws_credential_types::Credentials::new(
        credential.access_key_id,
        credential.secret_access_key,
        None,
        None,
        "test",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{}", served.address))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .credentials_provider(keys)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

pub(super) async fn served() -> (tempfile::TempDir, Served, Client) {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let client = client(&served);
    (directory, served, client)
}

pub(super) fn status<E, R>(result: Result<impl Sized, SdkError<E, R>>) -> (u16, String)
where
    E: ProvideErrorMetadata + std::fmt::Debug,
    R: std::fmt::Debug + StatusOf,
{
    match result {
        Ok(_) => (200, String::new()),
        Err(SdkError::ServiceError(error)) => (
            error.raw().status_of(),
            error.err().code().unwrap_or_default().to_owned(),
        ),
        Err(other) => panic!("{other:?}"),
    }
}

pub(super) trait StatusOf {
    fn status_of(&self) -> u16;
}

impl StatusOf for aws_sdk_s3::config::http::HttpResponse {
    fn status_of(&self) -> u16 {
        self.status().as_u16()
    }
}

pub(super) async fn put(client: &Client, key: &str, body: &'static [u8]) {
    client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from_static(body))
        .send()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_metadata_come_back_as_they_were_put() {
    let (_directory, _served, client) = served().await;
    client
        .put_object()
        .bucket(BUCKET)
        .key("dir/page.html")
        .content_type("text/html; charset=utf-8")
        .cache_control("no-store")
        .content_encoding("gzip")
        .content_disposition("attachment; filename=\"a\"")
        .metadata("Mixed-Case", "some value")
        .body(ByteStream::from_static(b"hello"))
        .send()
        .await
        .unwrap();
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("dir/page.html")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("text/html; charset=utf-8"));
    assert_eq!(head.cache_control(), Some("no-store"));
    // The transfer's own aws-chunked is gone.
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(head.content_disposition(), Some("attachment; filename=\"a\""));
    assert_eq!(head.metadata().unwrap()["mixed-case"], "some value");
    assert_eq!(head.content_length(), Some(5));
    assert!(
        head.e_tag().unwrap().ends_with("-1\""),
        "an etag that cannot be taken for an MD5"
    );
    let big = "x".repeat(2_049);
    let refused = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .metadata("big", big)
        .send()
        .await;
    assert_eq!(status(refused), (400, "MetadataTooLarge".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_are_verified_kept_and_returned() {
    let (_directory, _served, client) = served().await;
    let algorithms = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];
    for algorithm in algorithms {
        // The SDK computes it while it streams, sends it as a trailer, and checks it when it reads.
        let body = ByteStream::from_static(b"0123456789");
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .checksum_algorithm(algorithm.clone())
            .body(body);
        put.send()
            .await
            .unwrap_or_else(|error| panic!("{algorithm}: {error:?}"));
        let get = client
            .get_object()
            .bucket(BUCKET)
            .key("k")
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let get = get.unwrap();
        let returned = match algorithm {
            ChecksumAlgorithm::Crc32C => get.checksum_crc32_c(),
            ChecksumAlgorithm::Sha1 => get.checksum_sha1(),
            ChecksumAlgorithm::Sha256 => get.checksum_sha256(),
            _ => get.checksum_crc32(),
        };
        assert!(returned.is_some(), "{algorithm}");
        assert_eq!(get.body.collect().await.unwrap().into_bytes(), "0123456789");
    }
    let body = ByteStream::from_static(b"another body");
    let wrong = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .checksum_crc32("AAAAAA==")
        .body(body)
        .send()
        .await;
    assert_eq!(status(wrong), (400, "BadDigest".to_owned()));
    let get = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(
        get.content_length(),
        Some(10),
        "a put with a wrong checksum changes nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_read_conditions_follow_http() {
    let (_directory, _served, client) = served().await;
    put(&client, "k", b"0123456789").await;
    let cases = [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-99", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
    ];
    for (range, expected, content_range) in cases {
        let part = client
            .get_object()
            .bucket(BUCKET)
            .key("k")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(part.content_range(), Some(content_range));
        assert_eq!(part.body.collect().await.unwrap().into_bytes(), expected);
    }
    let past = client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .range("bytes=10-11")
        .send()
        .await;
    assert_eq!(status(past), (416, "InvalidRange".to_owned()));
    let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    let (etag, date) = (head.e_tag().unwrap(), *head.last_modified().unwrap());
    let get = || client.get_object().bucket(BUCKET).key("k");
    assert_eq!(status(get().if_none_match(etag).send().await).0, 304);
    assert_eq!(status(get().if_match("\"other\"").send().await).0, 412);
    assert_eq!(status(get().if_match(etag).send().await).0, 200);
    assert_eq!(status(get().if_modified_since(date).send().await).0, 304);
    assert_eq!(status(get().if_unmodified_since(date).send().await).0, 200);
    assert_eq!(
        status(client.head_object().bucket(BUCKET).key("none").send().await).0,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_conditions_answer_as_s3_does() {
    let (_directory, _served, client) = served().await;
    let conditional = || {
        client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(ByteStream::from_static(b"x"))
    };
    assert_eq!(
        status(conditional().if_match("\"e\"").send().await),
        (404, "NoSuchKey".to_owned())
    );
    assert_eq!(status(conditional().if_none_match("*").send().await).0, 200);
    assert_eq!(
        status(conditional().if_none_match("*").send().await),
        (412, "PreconditionFailed".to_owned())
    );
    assert_eq!(
        status(conditional().if_match("\"e\"").send().await),
        (412, "PreconditionFailed".to_owned())
    );
    assert_eq!(
        status(conditional().if_none_match("\"e\"").send().await),
        (501, "NotImplemented".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_listing_page_through_folders() {
    let (_directory, _served, client) = served().await;
    for key in ["a b/1", "a b/2", "c+d", "é/1", "z"] {
        put(&client, key, b"x").await;
    }
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let list = client
            .list_objects_v2()
            .bucket(BUCKET)
            .delimiter("/")
            .max_keys(1)
            .set_continuation_token(token);
        let page = list.send().await.unwrap();
        assert_eq!(page.key_count(), Some(1));
        names.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
        names.extend(
            page.common_prefixes()
                .iter()
                .map(|prefix| prefix.prefix().unwrap().to_owned()),
        );
        token = page.next_continuation_token().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(names, ["a b/", "c+d", "z", "é/"]);
    let mut names = Vec::new();
    let mut marker = None;
    loop {
        let list = client
            .list_objects()
            .bucket(BUCKET)
            .delimiter("/")
            .max_keys(1)
            .set_marker(marker);
        let page = list.send().await.unwrap();
        names.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
        names.extend(
            page.common_prefixes()
                .iter()
                .map(|prefix| prefix.prefix().unwrap().to_owned()),
        );
        marker = page.next_marker().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(names, ["a b/", "c+d", "z", "é/"]);
    let encoded = client
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .unwrap();
    assert_eq!(encoded.contents()[0].key(), Some("a%20b/1"));
    let none = client
        .list_objects_v2()
        .bucket(BUCKET)
        .max_keys(0)
        .send()
        .await
        .unwrap();
    assert_eq!((none.is_truncated(), none.contents().len()), (Some(false), 0));
    let bad = client
        .list_objects_v2()
        .bucket(BUCKET)
        .continuation_token("!")
        .send()
        .await;
    assert_eq!(status(bad), (400, "InvalidArgument".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_deletes_and_buckets_work_as_clients_expect() {
    let (_directory, _served, client) = served().await;
    client.create_bucket().bucket("second").send().await.unwrap();
    let again = client.create_bucket().bucket("second").send().await;
    assert_eq!(status(again), (409, "BucketAlreadyOwnedByYou".to_owned()));
    put(&client, "a/ü b", b"copied").await;
    let copy = client
        .copy_object()
        .bucket("second")
        .key("b")
        .copy_source("hangar/a/%C3%BC%20b");
    copy.send().await.unwrap();
    let copy = client
        .copy_object()
        .bucket("second")
        .key("b")
        .copy_source("second/b");
    let touched = copy
        .metadata_directive(MetadataDirective::Replace)
        .metadata("mtime", "1")
        .send()
        .await;
    touched.unwrap();
    let get = client
        .get_object()
        .bucket("second")
        .key("b")
        .send()
        .await
        .unwrap();
    assert_eq!(get.metadata().unwrap()["mtime"], "1");
    assert_eq!(get.body.collect().await.unwrap().into_bytes(), "copied");
    let full = client.delete_bucket().bucket("second").send().await;
    assert_eq!(status(full), (409, "BucketNotEmpty".to_owned()));
    let keys = ["b", "never there"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(keys.to_vec()))
        .build()
        .unwrap();
    let deleted = client
        .delete_objects()
        .bucket("second")
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (2, 0));
    client.delete_bucket().bucket("second").send().await.unwrap();
    assert_eq!(status(client.head_bucket().bucket("second").send().await).0, 404);
    let buckets = client.list_buckets().send().await.unwrap();
    assert_eq!(
        buckets
            .buckets()
            .iter()
            .filter_map(|bucket| bucket.name())
            .collect::<Vec<_>>(),
        ["hangar"]
    );
}
