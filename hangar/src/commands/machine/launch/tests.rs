use super::*;

fn volume(id: &str, state: &str, attached: Option<&str>) -> Value {
    json!({"id": id, "name": "data", "state": state, "attached_machine_id": attached})
}

#[test]
fn a_name_takes_a_free_volume_and_waits_for_one_in_the_making() {
    let (busy, free) = (
        volume("vol_1", "created", Some("m1")),
        volume("vol_2", "created", None),
    );
    let (making, going) = (
        volume("vol_3", "restoring", None),
        volume("vol_4", "pending_destroy", None),
    );
    assert_eq!(
        choose(&[busy.clone(), making.clone(), free.clone()], "data"),
        Choice::Take(free)
    );
    assert_eq!(choose(&[busy.clone(), making], "data"), Choice::Wait);
    assert_eq!(choose(&[busy, going], "data"), Choice::None);
    assert_eq!(choose(&[], "data"), Choice::None);
}

#[test]
fn an_id_is_taken_as_it_is_unless_it_is_in_the_making() {
    let busy = volume("vol_1", "created", Some("m1"));
    assert_eq!(choose(std::slice::from_ref(&busy), "vol_1"), Choice::Take(busy));
    assert_eq!(
        choose(&[volume("vol_1", "creating", None)], "vol_1"),
        Choice::Wait
    );
    assert_eq!(choose(&[], "vol_9"), Choice::Take(json!({"id": "vol_9"})));
}

#[test]
fn a_mount_is_a_volume_and_a_path_and_nothing_more() {
    assert_eq!(source_and_path("data:/data").unwrap(), ("data", "/data"));
    for given in [
        "data",
        ":/data",
        "data:",
        "data:data",
        "data:/data:ro",
        "data:/data:extra:foo",
    ] {
        let refused = source_and_path(given).unwrap_err();
        assert_eq!(refused.exit_code(), crate::failure::MISUSE, "{given}");
        assert!(refused.to_string().contains("use VOLUME:/path"), "{refused}");
    }
}
