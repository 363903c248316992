use super::*;

fn holder(node: &str) -> Holder {
    Holder {
        node: NodeId(node.to_owned()),
        hostname: format!("host-{node}"),
        url: format!("http://{node}:20202"),
    }
}

#[test]
fn every_acquisition_has_a_greater_epoch_and_nothing_else_changes_it() {
    let first = Record::default().acquired(holder("a"), 10_000, "LFSC1");
    assert_eq!(first.epoch, Epoch(1));
    let candidate = Candidate {
        progress: Progress::default(),
        beat: 1,
    };
    let b = NodeId("b".to_owned());
    let same = [
        first.renewed(Progress::default()),
        first.released(),
        first.kept(b.clone()),
        first.announced(b, candidate),
    ];
    assert!(same.iter().all(|record| record.epoch == first.epoch));
    assert_eq!(
        first.released().acquired(holder("b"), 10_000, "LFSC1").epoch,
        Epoch(2)
    );
}

#[test]
fn a_lease_that_is_handed_over_is_no_longer_the_holder_s() {
    let record = Record::default().acquired(holder("a"), 10_000, "LFSC1");
    let (a, b) = (NodeId("a".to_owned()), NodeId("b".to_owned()));
    assert!(record.is_held(&a, Epoch(1)) && !record.is_held(&b, Epoch(1)));
    assert!(!record.is_held(&a, Epoch(2)), "that of another acquisition");
    assert!(!record.kept(b).is_held(&a, Epoch(1)));
}

#[test]
fn progress_is_never_taken_back_and_a_cluster_never_renamed() {
    let far = Progress {
        epoch: Epoch(3),
        txids: 9,
    };
    let record = Record::default().acquired(holder("a"), 1, "LFSC1").renewed(far);
    let again = record
        .renewed(Progress::default())
        .acquired(holder("b"), 1, "LFSC2");
    assert_eq!((again.progress, again.cluster.as_deref()), (far, Some("LFSC1")));
}

#[test]
fn a_record_is_read_as_it_was_written_also_with_keys_of_the_future() {
    let record = Record::default()
        .acquired(holder("a"), 10_000, "LFSC1")
        .announced(
            NodeId("b".to_owned()),
            Candidate {
                progress: Progress {
                    epoch: Epoch(1),
                    txids: 4,
                },
                beat: 2,
            },
        );
    let mut json = serde_json::to_value(&record).unwrap();
    assert_eq!(serde_json::from_value::<Record>(json.clone()).unwrap(), record);
    json["mood"] = "good".into();
    assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
}
