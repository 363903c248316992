use objstore::{OBJECT_DAMAGED, Refusal};

use super::*;

fn refused(code: &str) -> GetError {
    GetError::Refused {
        key: Key::new("backup/b").unwrap(),
        source: Refusal {
            status: 422,
            code: code.to_owned(),
            message: "object file: crc32 of block 3 is 1, was 2".to_owned(),
        },
    }
}

#[test]
fn a_store_that_says_that_it_lost_an_object_tells_of_damage_by_name() {
    let damage = classify(refused(OBJECT_DAMAGED)).unwrap();
    assert_eq!(
        (damage.object.as_str(), &damage.flaw, damage.remedy()),
        ("backup/b", &Flaw::StoreChecksum, Remedy::FixData)
    );
    assert!(classify(refused("AccessDenied")).is_err());
}
