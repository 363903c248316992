//! Objects in parts, objects longer than memory should hold, and what foreign clients (boto3, s3cmd) were seen to need.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, EncodingType};

use super::protocol::{put, served, status};
use super::{BUCKET, raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multipart_upload_becomes_one_object_under_its_condition() {
    let (_directory, _served, client) = served().await;
    let mut completions = Vec::new();
    for number in 1..=2 {
        let upload = client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key("big")
            .metadata("by", number.to_string());
        let id = upload.send().await.unwrap().upload_id.unwrap();
        let mut parts = Vec::new();
        for (part_number, body) in [(1, vec![1; 5 << 20]), (2, vec![2; 1000])] {
            let part = client
                .upload_part()
                .bucket(BUCKET)
                .key("big")
                .upload_id(&id)
                .part_number(part_number);
            let part = part.body(ByteStream::from(body)).send().await.unwrap();
            // s3cmd takes an etag without a dash for an MD5, finds it wrong, and gives up.
            assert!(part.e_tag().unwrap().ends_with("-1\""));
            let done = CompletedPart::builder()
                .part_number(part_number)
                .set_e_tag(part.e_tag)
                .build();
            parts.push(done);
        }
        let listed = client
            .list_parts()
            .bucket(BUCKET)
            .key("big")
            .upload_id(&id)
            .send()
            .await
            .unwrap();
        assert_eq!(listed.parts().len(), 2);
        completions.push((
            id,
            CompletedMultipartUpload::builder().set_parts(Some(parts)).build(),
        ));
    }
    let complete = |(id, parts): (String, CompletedMultipartUpload)| {
        let complete = client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("big")
            .upload_id(id);
        complete.multipart_upload(parts).if_none_match("*").send()
    };
    let loser = completions.pop().unwrap();
    let done = complete(completions.pop().unwrap()).await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-2\""));
    assert_eq!(
        status(complete(loser.clone()).await),
        (412, "PreconditionFailed".to_owned())
    );
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("big")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some((5 << 20) + 1000));
    assert_eq!(head.metadata().unwrap()["by"], "1");
    let edge = client
        .get_object()
        .bucket(BUCKET)
        .key("big")
        .range("bytes=5242879-5242880")
        .send()
        .await
        .unwrap();
    assert_eq!(edge.body.collect().await.unwrap().into_bytes(), &[1, 2][..]);
    let uploads = client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    assert_eq!(uploads.uploads().len(), 1);
    client
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .upload_id(&loser.0)
        .send()
        .await
        .unwrap();
    let gone = client
        .list_parts()
        .bucket(BUCKET)
        .key("big")
        .upload_id(&loser.0)
        .send()
        .await;
    assert_eq!(status(gone), (404, "NoSuchUpload".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_object_is_streamed_whole_and_broken_off_where_it_is_damaged() {
    use crashsafe::Disk as _;
    let (directory, _served, client) = served().await;
    let body: Vec<u8> = (0..251).cycle().take(20 << 20).collect();
    client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(ByteStream::from(body.clone()))
        .send()
        .await
        .unwrap();
    let get = || client.get_object().bucket(BUCKET).key("k").send();
    assert!(get().await.unwrap().body.collect().await.unwrap().into_bytes() == body);
    let objects = directory.path().join("buckets").join(BUCKET).join("objects");
    let name = crashsafe::RealDisk.list(&objects).unwrap().remove(0).name;
    let path = objects.join(name);
    let file = crashsafe::RealDisk
        .open("test", &path, crashsafe::OpenOptions::READ_WRITE)
        .unwrap();
    file.write_at(&[0xff], 18 << 20).unwrap();
    assert!(
        get().await.unwrap().body.collect().await.is_err(),
        "wrong bytes were sent as if they were right"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_presigned_url_stands_for_its_signer_until_it_is_changed() {
    let (_directory, served, client) = served().await;
    put(&client, "k", b"for whoever has the link").await;
    let lifetime = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let link = client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .presigned(lifetime.clone())
        .await
        .unwrap();
    let host = served.address;
    let get = |uri: &str| format!("GET {uri} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let path = link.uri().strip_prefix(&format!("http://{host}")).unwrap();
    assert!(raw(host, &get(path)).await.ends_with("for whoever has the link"));
    let other = raw(host, &get(&path.replace("/k?", "/other?"))).await;
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    let link = client
        .put_object()
        .bucket(BUCKET)
        .key("new")
        .presigned(lifetime)
        .await
        .unwrap();
    let path = link.uri().strip_prefix(&format!("http://{host}")).unwrap();
    let headers = format!("host: {host}\r\nconnection: close\r\ncontent-length: 3\r\n\r\n");
    let answer = raw(host, &format!("PUT {path} HTTP/1.1\r\n{headers}abc")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("new")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_xml_cannot_carry_are_listed_by_url_encoding() {
    let (_directory, _served, client) = served().await;
    put(&client, "a\u{1}b", b"x").await;
    let list = client
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .unwrap();
    assert_eq!(list.contents()[0].key(), Some("a%01b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_ask_of_a_bucket_before_they_use_it_is_answered() {
    let (_directory, _served, client) = served().await;
    let location = client.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert!(
        location
            .location_constraint()
            .is_none_or(|region| region.as_str().is_empty())
    );
    let versioning = client
        .get_bucket_versioning()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    assert_eq!(versioning.status(), None);
    let acl = client.get_bucket_acl().bucket(BUCKET).send().await;
    assert_eq!(status(acl), (501, "NotImplemented".to_owned()));
}
