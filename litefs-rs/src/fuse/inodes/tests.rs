use super::{Inodes, LAG};
use crate::name::MountName;

fn target(name: &str) -> MountName {
    name.parse().expect("a name of the mount")
}

#[test]
fn a_file_that_is_made_anew_gets_another_number_and_the_old_one_stays_with_its_users() {
    let mut inodes = Inodes::default();
    let journal = target("a-journal");
    let first = inodes.looked_up("a-journal", &journal);
    assert_eq!(inodes.looked_up("a-journal", &journal), first);
    inodes.unlinked("a-journal");
    let second = inodes.looked_up("a-journal", &journal);
    assert_ne!(first, second);
    assert_eq!(inodes.target(first), Some((journal.clone(), true)));
    assert_eq!(inodes.target(second), Some((journal, false)));
}

#[test]
fn a_number_is_dropped_when_the_kernel_has_forgotten_it_as_often_as_it_asked() {
    let mut inodes = Inodes::default();
    let database = target("a");
    let number = inodes.looked_up("a", &database);
    inodes.looked_up("a", &database);
    inodes.forget(number, 1);
    assert!(inodes.target(number).is_some());
    inodes.forget(number, 1);
    assert_eq!(inodes.target(number), None);
    assert_ne!(inodes.looked_up("a", &database), number);
}

#[test]
fn special_files_have_fixed_numbers() {
    let mut inodes = Inodes::default();
    assert_eq!(inodes.looked_up(".lag", &MountName::Lag), LAG);
    inodes.forget(LAG, 1);
    assert_eq!(inodes.target(LAG), Some((MountName::Lag, false)));
}
