use super::*;

fn at(seq: u64, piece: Option<u16>) -> Journaled {
    Journaled {
        seq: Seq(seq),
        position: seq * 10,
        data: piece.map(|piece| (piece, 0)),
    }
}

#[test]
fn the_newest_write_of_a_block_is_kept_and_neighbours_are_joined() {
    let mut batch = Batch::default();
    batch.add(Lba(10), 8, at(1, Some(0)));
    batch.add(Lba(18), 4, at(1, Some(1)));
    batch.add(Lba(12), 2, at(2, Some(0)));
    batch.add(Lba(40), 5, at(2, None));
    batch.add(Lba(42), 1, at(3, Some(0)));
    assert_eq!(batch.data_blocks(), 13);
    let sealed = batch.to_seal();
    let shape: Vec<_> = sealed
        .iter()
        .map(|run| {
            (
                run.lba.0,
                run.blocks,
                run.sources.iter().map(|run| run.blocks).collect::<Vec<_>>(),
            )
        })
        .collect();
    let expected = [
        (10, 12, vec![2, 2, 4, 4]),
        (40, 2, vec![]),
        (42, 1, vec![1]),
        (43, 2, vec![]),
    ];
    assert_eq!(shape, expected);
    let Source::Journal { seq, piece, skip, .. } = sealed[0].sources[2].source else {
        panic!("not in the journal")
    };
    assert_eq!((seq, piece, skip), (Seq(1), 0, 4));
}

#[test]
fn long_runs_are_cut_into_extents() {
    let mut batch = Batch::default();
    for piece in 0..3 {
        batch.add(Lba(u64::from(piece) * 12), 12, at(1, Some(piece)));
    }
    let lengths: Vec<u64> = batch.to_seal().iter().map(|run| run.blocks).collect();
    assert_eq!(lengths, [16, 16, 4]);
}
