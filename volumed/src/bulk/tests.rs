use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crashsafe::RealDisk;
use futures_util::future::join_all;
use zeroize::Zeroizing;

use super::*;
use crate::backup::tests::{Seeded, noise};
use crate::luks;

const SIZE_BYTES: u64 = 12 << 20;
const MIB: u64 = 1 << 20;

/// Images through the ring, and through the disk port alone.
fn both() -> [Images; 2] {
    let bulk = Bulk::start().unwrap();
    let workers = Workers::start(2).unwrap();
    [
        Images::new(Arc::new(RealDisk), Some(bulk), workers),
        Images::new(Arc::new(RealDisk), None, Workers::inline()),
    ]
}

fn luks_layout() -> Layout {
    Layout::Luks {
        passphrase: Zeroizing::new("secret".to_owned()),
    }
}

fn raw_file(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    File::create(&path).unwrap().set_len(SIZE_BYTES).unwrap();
    path
}

fn luks_file(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let file = File::create(&path).unwrap();
    file.write_all_at(&luks::create_header("secret", &Seeded::new(1)), 0)
        .unwrap();
    file.set_len(luks::HEADER_BYTES + SIZE_BYTES).unwrap();
    path
}

#[tokio::test]
async fn what_is_written_is_read_in_either_layout_and_by_either_way() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        for (path, layout) in [
            (raw_file(dir.path(), "raw"), Layout::Raw),
            (luks_file(dir.path(), "luks"), luks_layout()),
        ] {
            let bytes = noise(1, 3 << 20);
            let sink = images.open_sink(&path, SIZE_BYTES, &layout).await.unwrap();
            let writes = (0..6).map(|part: usize| {
                let data = Bytes::copy_from_slice(&bytes[part << 19..(part + 1) << 19]);
                sink.write_at(MIB + ((part as u64) << 19), data)
            });
            for written in join_all(writes).await {
                written.unwrap();
            }
            sink.sync().await.unwrap();
            let source = images.open_source(&path, SIZE_BYTES, &layout).await.unwrap();
            assert!(
                source.read_at(MIB, 3 << 20).await.unwrap() == bytes,
                "{layout:?} {images:?}"
            );
            let reads = join_all((0..24).map(|part: u64| source.read_at(MIB + (part << 17), 1 << 17))).await;
            for (part, read) in reads.into_iter().enumerate() {
                assert!(
                    read.unwrap() == bytes[part << 17..(part + 1) << 17],
                    "{layout:?} part {part}"
                );
            }
        }
    }
}

#[tokio::test]
async fn raw_bytes_lie_in_the_file_as_they_are_and_encrypted_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let [images, _] = both();
    let data = Bytes::from(vec![0x11; 4096]);
    let raw = raw_file(dir.path(), "raw");
    let sink = images.open_sink(&raw, SIZE_BYTES, &Layout::Raw).await.unwrap();
    sink.write_at(8192, data.clone()).await.unwrap();
    assert!(std::fs::read(&raw).unwrap()[8192..12_288] == *data);
    let luks = luks_file(dir.path(), "luks");
    let sink = images.open_sink(&luks, SIZE_BYTES, &luks_layout()).await.unwrap();
    sink.write_at(8192, data.clone()).await.unwrap();
    let at = usize::try_from(luks::HEADER_BYTES).unwrap() + 8192;
    let stored = std::fs::read(&luks).unwrap();
    assert!(stored[at..at + 4096] != *data && !is_zero(&stored[at..at + 4096]));
}

#[tokio::test]
async fn holes_are_zeros_on_raw_files_and_undefined_on_luks() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        let raw = raw_file(dir.path(), "raw");
        let luks = luks_file(dir.path(), "luks");
        // Zeros that take room, as a copying tool leaves them, are no different from a hole.
        File::options()
            .write(true)
            .open(&raw)
            .unwrap()
            .write_all_at(&[0; 65_536], 4 * MIB)
            .unwrap();
        let at = luks::HEADER_BYTES + 4 * MIB;
        File::options()
            .write(true)
            .open(&luks)
            .unwrap()
            .write_all_at(&[0; 65_536], at)
            .unwrap();
        let raw = images.open_source(&raw, SIZE_BYTES, &Layout::Raw).await.unwrap();
        let luks = images
            .open_source(&luks, SIZE_BYTES, &luks_layout())
            .await
            .unwrap();
        for offset in [0, 4 * MIB, 8 * MIB] {
            assert_eq!(raw.read_content(offset, 65_536).await.unwrap(), Content::Zero);
            assert_eq!(
                luks.read_content(offset, 65_536).await.unwrap(),
                Content::Undefined
            );
            assert!(is_zero(&luks.read_at(offset, 65_536).await.unwrap()));
        }
    }
}

#[tokio::test]
async fn unwritten_sectors_between_encrypted_ones_read_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let [images, _] = both();
    let path = luks_file(dir.path(), "luks");
    let sink = images.open_sink(&path, SIZE_BYTES, &luks_layout()).await.unwrap();
    sink.write_at(512, Bytes::from(vec![7; 512])).await.unwrap();
    let expected = [vec![0; 512], vec![7; 512], vec![0; 3072]].concat();
    assert!(sink.read_at(0, 4096).await.unwrap() == expected);
}

#[tokio::test]
async fn zeros_asked_for_are_zeros_for_the_guest() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        let path = luks_file(dir.path(), "luks");
        let sink = images.open_sink(&path, SIZE_BYTES, &luks_layout()).await.unwrap();
        sink.zero(MIB, 9 * MIB + 512).await.unwrap();
        // Encrypted zeros are not undefined: somebody relies on them.
        let read = sink.read_content(MIB, 4096).await.unwrap();
        assert_eq!(read, Content::Data(Bytes::from(vec![0; 4096])));
        assert_eq!(
            sink.read_content(10 * MIB, 512).await.unwrap(),
            Content::Data(Bytes::from(vec![0; 512]))
        );
        assert_eq!(
            sink.read_content(10 * MIB + 512, 512).await.unwrap(),
            Content::Undefined
        );
        let raw = raw_file(dir.path(), "raw");
        images
            .open_sink(&raw, SIZE_BYTES, &Layout::Raw)
            .await
            .unwrap()
            .zero(0, SIZE_BYTES)
            .await
            .unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&raw).unwrap()),
            0
        );
    }
}

#[tokio::test]
async fn a_copy_into_another_layout_reads_the_same() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        let raw = raw_file(dir.path(), "raw");
        let luks = luks_file(dir.path(), "luks");
        let source = images.open_sink(&raw, SIZE_BYTES, &Layout::Raw).await.unwrap();
        source
            .write_at(5 * MIB, Bytes::from(noise(2, 1 << 20)))
            .await
            .unwrap();
        let sink = images.open_sink(&luks, SIZE_BYTES, &luks_layout()).await.unwrap();
        let report = copy(&source, &sink).await.unwrap();
        assert_eq!(
            (report.data_bytes, report.zero_bytes, report.undefined_bytes),
            (4 * MIB, 8 * MIB, 0)
        );
        for offset in (0..SIZE_BYTES).step_by(1 << 20) {
            assert!(
                source.read_at(offset, 1 << 20).await.unwrap()
                    == sink.read_at(offset, 1 << 20).await.unwrap()
            );
        }
        let small = raw_file(dir.path(), "small");
        let small = images
            .open_sink(&small, SIZE_BYTES - 512, &Layout::Raw)
            .await
            .unwrap();
        assert_eq!(
            copy(&source, &small).await.unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}

#[tokio::test]
async fn what_cannot_be_an_image_is_refused_by_name() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        let raw = raw_file(dir.path(), "raw");
        let missing = images
            .open_source(&dir.path().join("none"), SIZE_BYTES, &Layout::Raw)
            .await
            .unwrap_err();
        assert!(matches!(missing, ImageError::Io { .. }));
        let short = images
            .open_source(&raw, SIZE_BYTES + 512, &Layout::Raw)
            .await
            .unwrap_err();
        assert!(
            matches!(
                short,
                ImageError::Short {
                    file_bytes: SIZE_BYTES,
                    ..
                }
            ),
            "{short}"
        );
        let not_luks = images.open_source(&raw, MIB, &luks_layout()).await.unwrap_err();
        assert!(matches!(
            not_luks,
            ImageError::Luks {
                source: luks::LuksError::NotLuks,
                ..
            }
        ));
        let luks = luks_file(dir.path(), "luks");
        let wrong = Layout::Luks {
            passphrase: Zeroizing::new("wrong".to_owned()),
        };
        let wrong = images.open_source(&luks, SIZE_BYTES, &wrong).await.unwrap_err();
        assert!(matches!(
            wrong,
            ImageError::Luks {
                source: luks::LuksError::WrongPassphrase,
                ..
            }
        ));
        let source = images.open_source(&raw, SIZE_BYTES, &Layout::Raw).await.unwrap();
        for (offset, len) in [(SIZE_BYTES, 512), (1, 512), (0, 100), (u64::MAX - 511, 512)] {
            let error = source.read_content(offset, len).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{len} at {offset}");
        }
    }
}

#[tokio::test]
async fn a_file_that_shrinks_under_a_read_is_an_error_and_not_zeros() {
    for images in both() {
        let dir = tempfile::tempdir().unwrap();
        let path = raw_file(dir.path(), "raw");
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[1; 8192], 0).unwrap();
        let source = images.open_source(&path, SIZE_BYTES, &Layout::Raw).await.unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(
            source.read_content(0, 8192).await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}

#[tokio::test]
async fn a_file_is_closed_when_its_image_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let [images, _] = both();
    let path = raw_file(dir.path(), "raw");
    let image = images.open_source(&path, SIZE_BYTES, &Layout::Raw).await.unwrap();
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter(|link| std::fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|to| to == path))
            .count()
    };
    assert_eq!(open(), 4, "the disk's, the ring's two and the one for advice");
    drop(image);
    // The ring closes its own when it comes to it; any later request is behind that in its queue.
    let other = raw_file(dir.path(), "other");
    let other = images
        .open_source(&other, SIZE_BYTES, &Layout::Raw)
        .await
        .unwrap();
    for _ in 0..1_000 {
        other.read_at(0, 512).await.unwrap();
        if open() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(open(), 0);
}

#[tokio::test]
async fn work_runs_on_named_threads_and_its_panic_reaches_the_caller_only() {
    let workers = Workers::start(2).unwrap();
    let names =
        join_all((0..20).map(|_| workers.run(|| std::thread::current().name().map(str::to_owned)))).await;
    assert!(
        names
            .iter()
            .all(|name| name.as_deref().is_some_and(|name| name.starts_with("codec-"))),
        "{names:?}"
    );
    let panicking = workers.clone();
    let panicked = daemon::spawn("panicking", async move {
        panicking.run(|| panic!("on purpose")).await
    })
    .await;
    assert!(panicked.is_err());
    let sums = join_all((0..20_u64).map(|number| workers.run(move || number * number))).await;
    assert_eq!(sums.iter().sum::<u64>(), 2_470);
    let here = std::thread::current().id();
    assert_eq!(Workers::inline().run(|| std::thread::current().id()).await, here);
}

#[test]
fn this_kernel_has_a_ring_for_us() {
    Bulk::probe().unwrap();
}

#[tokio::test]
async fn guests_go_before_codecs() {
    let of_codecs = Workers::start(1)
        .unwrap()
        .run(|| rustix::process::getpriority_process(None).unwrap())
        .await;
    let ours = rustix::process::getpriority_process(None).unwrap();
    assert!(of_codecs > ours || of_codecs == 19, "{of_codecs} beside {ours}");
}
