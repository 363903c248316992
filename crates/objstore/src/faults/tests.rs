use super::*;
use crate::MemoryStore;
use crate::store::Remedy;

const TEST: Purpose = Purpose("test");
const OTHER: Purpose = Purpose("other");

fn store() -> (MemoryStore, FaultStore) {
    let memory = MemoryStore::new();
    let faulty = FaultStore::new(Arc::new(memory.clone()));
    (memory, faulty)
}

fn key() -> Key {
    Key::new("a").unwrap()
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_was_applied_and_one_that_never_left_was_not() {
    let (memory, faulty) = store();
    faulty.inject(Fault::next(Call::Put, Damage::FailBefore));
    let lost = faulty
        .put_if_absent(&key(), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap_err();
    assert_eq!((lost.remedy(), memory.objects()), (Remedy::Retry, 0));
    faulty.inject(Fault::next(Call::Put, Damage::FailAfter));
    let lost = faulty
        .put_if_absent(&key(), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap_err();
    assert_eq!((lost.remedy(), memory.objects()), (Remedy::Retry, 1));
}

#[tokio::test]
async fn a_fault_strikes_its_purpose_only_after_as_many_calls_as_asked() {
    let (_, faulty) = store();
    faulty
        .put_if_absent(&key(), Bytes::from_static(b"0123"), TEST)
        .await
        .unwrap();
    faulty.inject(
        Fault::next(Call::Get, Damage::Truncate { keep_bytes: 1 })
            .on(TEST)
            .after(1),
    );
    let mut lengths = Vec::new();
    for purpose in [OTHER, TEST, OTHER, TEST, TEST] {
        lengths.push(faulty.get(&key(), None, purpose).await.unwrap().bytes.len());
    }
    assert_eq!(lengths, [4, 4, 4, 1, 4]);
    assert_eq!(faulty.calls(Call::Get, Some(TEST)), 3);
    assert_eq!(faulty.calls(Call::Get, None), 5);
}

#[tokio::test(start_paused = true)]
async fn a_delay_passes_time_and_harms_nothing() {
    let (_, faulty) = store();
    faulty.inject(Fault::next(Call::Put, Damage::Delay(Duration::from_secs(9))));
    let before = tokio::time::Instant::now();
    faulty
        .put_if_absent(&key(), Bytes::from_static(b"x"), TEST)
        .await
        .unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(9));
}
