use super::*;

/// Otherwise nothing behind the seals would ever be reached.
#[test]
fn what_is_forged_and_not_damaged_is_read() {
    let samples = Samples::new(&mut Rng::new(1));
    let sealer = &samples.sealer;
    let record = forge::record(sealer, &samples.record[..64], &samples.table).unwrap();
    assert_eq!(Record::open(sealer, &record).unwrap().pieces.len(), 2);
    let front = forge::checkpoint(sealer, &samples.checkpoint, &samples.index, &samples.rows).unwrap();
    assert_eq!(Checkpoint::open(sealer, &front).unwrap().leaves.len(), 2);
    let mut clear = clear_of_object(&samples).to_vec();
    let total = (clear.len() + samples.object_table.len() + 20) as u64 + 300 + 4;
    clear[64..72].copy_from_slice(&total.to_le_bytes());
    let front = forge::object(sealer, &clear, &samples.object_table).unwrap();
    assert_eq!(Layout::open(sealer, &front).unwrap().extents.len(), 3);
    let sealer = Sealer::new(&[3; 32], samples.head.disk);
    let sound = samples.head.encode(&sealer, SALT);
    let head = forge::head(&sealer, &sound[..sound.len() - 20]).unwrap();
    assert_eq!(Head::decode(&sealer, &head).unwrap(), samples.head);
    assert!(decode_leaf(0, &samples.leaf).is_ok());
}
