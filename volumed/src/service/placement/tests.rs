use super::*;
use crate::lifecycle::tests::volume;

fn zones() -> Vec<String> {
    ["0a01", "0a02", "0a03"].map(str::to_owned).to_vec()
}

fn at(zone: &str, app: &str, name: &str) -> Volume {
    Volume {
        zone: zone.into(),
        app: app.into(),
        name: name.into(),
        ..volume(VolumeState::Created)
    }
}

fn wish() -> Wish {
    Wish {
        app: "shop".into(),
        name: "data".into(),
        zone: None,
        not_zone: None,
        unique_zone: true,
        unique_zone_app_wide: false,
    }
}

#[test]
fn namesakes_of_an_app_go_to_different_zones_until_there_is_none_left() {
    let mut volumes = Vec::new();
    for expected in ["0a01", "0a02", "0a03"] {
        let zone = choose(&zones(), &volumes, &wish()).unwrap();
        assert_eq!(zone, expected);
        volumes.push(at(&zone, "shop", "data"));
    }
    let refusal = choose(&zones(), &volumes, &wish()).unwrap_err();
    assert_eq!(
        (refusal.status, refusal.code),
        (422, Some("volume_placement_capacity"))
    );
    assert!(refusal.sentence.contains("require_unique_zone: false"));
    let shared = Wish {
        unique_zone: false,
        ..wish()
    };
    assert!(choose(&zones(), &volumes, &shared).is_ok());
}

#[test]
fn other_names_and_other_apps_do_not_count_unless_asked_app_wide() {
    let volumes = [
        at("0a01", "shop", "logs"),
        at("0a02", "shop", "logs"),
        at("0a03", "other", "data"),
    ];
    assert_eq!(choose(&zones(), &volumes, &wish()).unwrap(), "0a03");
    let wide = Wish {
        unique_zone_app_wide: true,
        ..wish()
    };
    assert_eq!(choose(&zones(), &volumes, &wide).unwrap(), "0a03");
    let all = [
        at("0a01", "shop", "a"),
        at("0a02", "shop", "b"),
        at("0a03", "shop", "c"),
    ];
    assert_eq!(choose(&zones(), &all, &wide).unwrap_err().status, 422);
    assert!(choose(&zones(), &all, &wish()).is_ok());
}

#[test]
fn a_fork_leaves_its_sources_zone() {
    let volumes = [at("0a01", "shop", "data")];
    let fork = Wish {
        not_zone: Some("0a01".into()),
        ..wish()
    };
    assert_eq!(choose(&zones(), &volumes, &fork).unwrap(), "0a02");
    let only = vec!["0a01".to_owned()];
    assert_eq!(choose(&only, &volumes, &fork).unwrap_err().status, 422);
    assert_eq!(
        choose(
            &only,
            &volumes,
            &Wish {
                unique_zone: false,
                ..fork
            }
        )
        .unwrap(),
        "0a01"
    );
}

#[test]
fn deleted_volumes_give_their_zone_back() {
    let deleted = Volume {
        state: VolumeState::PendingDestroy,
        ..at("0a01", "shop", "data")
    };
    assert_eq!(choose(&zones(), &[deleted], &wish()).unwrap(), "0a01");
}

#[test]
fn an_unknown_zone_is_refused_and_a_known_one_kept() {
    let named = |zone: &str| Wish {
        zone: Some(zone.into()),
        ..wish()
    };
    assert_eq!(choose(&zones(), &[], &named("0a03")).unwrap(), "0a03");
    assert_eq!(choose(&zones(), &[], &named("ffff")).unwrap_err().status, 422);
    assert_eq!(
        choose(&zones(), &[at("0a03", "shop", "data")], &named("0a03"))
            .unwrap_err()
            .status,
        422
    );
}
