use super::*;
use crate::environment::Environment;

#[test]
fn a_machine_that_is_not_there_is_named_with_its_app() {
    let environment = Environment::of_variables([("HANGAR_ENDPOINT", "http://x"), ("FLY_API_TOKEN", "t")]);
    let machine = Machine {
        rest: Rest::new(&environment).unwrap(),
        app: "a1".to_owned(),
        id: "m1".to_owned(),
    };
    let refused = |status, error: &str| Failure::Refused {
        doing: "x",
        status,
        error: error.to_owned(),
        request_id: None,
    };
    assert_eq!(
        machine.named(refused(404, "machine not found")).to_string(),
        "x: machine m1 was not found in app 'a1'"
    );
    assert_eq!(
        machine.named(refused(404, "app not found")).to_string(),
        "x: app not found"
    );
}
