use crate::{Checksum, FileName, NodeId, ParsePosError, Pos, Txid};

#[test]
fn a_position_reads_as_it_is_written() {
    let pos = Pos {
        txid: Txid::new(0x1f),
        checksum: Checksum::from_bits(0xb765_dce8_249e_9b4b),
    };
    assert_eq!(pos.to_string(), "000000000000001f/b765dce8249e9b4b");
    assert_eq!(pos.to_string().parse(), Ok(pos));
    assert_eq!("000000000000001F/B765DCE8249E9B4B".parse(), Ok(pos));
    assert_eq!(Pos::ZERO.to_string(), "0000000000000000/0000000000000000");
    assert_eq!(Pos::default(), Pos::ZERO);
}

#[test]
fn a_position_of_another_form_is_refused() {
    let parse = |text: &str| text.parse::<Pos>();
    assert_eq!(
        parse("000000000000001fb765dce8249e9b4b"),
        Err(ParsePosError::Slash)
    );
    for text in [
        "1f/b765dce8249e9b4b",
        "+00000000000001f/b765dce8249e9b4b",
        "/b765dce8249e9b4b",
    ] {
        assert!(matches!(parse(text), Err(ParsePosError::Txid(_))), "{text}");
    }
    for text in [
        "000000000000001f/",
        "000000000000001f/b765dce8249e9b4g",
        "000000000000001f/b765dce8249e9b4b ",
        "000000000000001f/b765dce8249e9b4b/",
    ] {
        assert!(matches!(parse(text), Err(ParsePosError::Checksum(_))), "{text}");
    }
}

#[test]
fn a_file_s_name_is_strict_and_sorts_by_transaction() {
    let name = FileName {
        min: Txid::new(1),
        max: Txid::new(0xabc),
    };
    assert_eq!(name.to_string(), "0000000000000001-0000000000000abc.ltx");
    assert_eq!(name.to_string().parse(), Ok(name));
    for other in [
        "0000000000000001-0000000000000ABC.ltx",
        "0000000000000001-0000000000000abc.ltx.tmp",
        "0000000000000001-0000000000000abc",
        "000000000000001-0000000000000abc.ltx",
        "+000000000000001-0000000000000abc.ltx",
        "0000000000000001-0000000000000abc-.ltx",
        "00000000000000010000000000000abc.ltx",
        "",
        "ä.ltx",
    ] {
        assert!(other.parse::<FileName>().is_err(), "{other}");
    }
    let mut names = [16, 2, 255, 1].map(|min| FileName {
        min: Txid::new(min),
        max: Txid::new(min),
    });
    names.sort();
    let mut texts = names.map(|name| name.to_string());
    texts.sort();
    assert_eq!(texts, names.map(|name| name.to_string()));
}

#[test]
fn a_node_s_number_is_written_in_upper_case_and_read_in_any_form() {
    assert_eq!(NodeId::new(0xbeef).to_string(), "000000000000BEEF");
    for text in ["beef", "BEEF", "000000000000BEEF", "0000000000000000beef"] {
        assert_eq!(text.parse(), Ok(NodeId::new(0xbeef)), "{text}");
    }
    for text in ["", "+1", "10000000000000000", "node"] {
        assert!(text.parse::<NodeId>().is_err(), "{text}");
    }
}

#[test]
fn transactions_end_where_their_numbers_end() {
    assert_eq!(Txid::ZERO.next(), Some(Txid::FIRST));
    assert_eq!(Txid::ZERO.previous(), None);
    assert_eq!(Txid::new(u64::MAX).next(), None);
}
