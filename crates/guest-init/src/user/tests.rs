use super::*;

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web,,,:/srv/web:/bin/sh\nbroken\nnohome:x:7:8:::\n";
const GROUP: &str = "root:x:0:\nweb:x:1001:\nlogs:x:44:other,web\nadm:x:4:web\n";

fn check(spec: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
    let expected = Identity {
        uid,
        gid,
        groups: groups.to_vec(),
        home: home.to_owned(),
    };
    assert_eq!(resolve(spec, PASSWD, GROUP), Ok(expected), "{spec:?}");
}

#[test]
fn names_and_numbers_resolve_in_every_combination() {
    check("web", 1000, 1001, &[1001, 44, 4], "/srv/web");
    check("1000", 1000, 1001, &[1001, 44, 4], "/srv/web");
    check("web:logs", 1000, 44, &[44], "/srv/web");
    check("web:12", 1000, 12, &[12], "/srv/web");
    check("web:", 1000, 1001, &[1001, 44, 4], "/srv/web");
    check("4711", 4711, 0, &[0], "/");
    check("4711:4712", 4711, 4712, &[4712], "/");
    check("nohome", 7, 8, &[8], "/");
    check("", 0, 0, &[0], "/root");
}

#[test]
fn unknown_names_are_named() {
    assert_eq!(
        resolve("joe", PASSWD, GROUP),
        Err(UserError::NoUser {
            name: "joe".to_owned()
        })
    );
    assert_eq!(
        resolve("web:joes", PASSWD, GROUP),
        Err(UserError::NoGroup {
            name: "joes".to_owned()
        })
    );
    assert_eq!(
        resolve("broken", PASSWD, GROUP),
        Err(UserError::NoUser {
            name: "broken".to_owned()
        })
    );
}

#[test]
fn an_image_without_any_users_runs_as_root() {
    assert_eq!(resolve("root", "", ""), Ok(Identity::root()));
    assert_eq!(resolve("0", "", ""), Ok(Identity::root()));
}
