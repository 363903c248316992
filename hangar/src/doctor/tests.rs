use super::*;
use crate::environment::Environment;
use crate::output::{Output, Terminal};

#[test]
fn a_finding_says_what_follows_and_what_to_do() {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    let context = Context::new(
        Environment::default(),
        Output::new(&mut data, &mut words, Terminal::default()),
    );
    let finding = Finding::bad("kvm", Verdict::Warning, ("not usable", "slower", "another host"));
    let indent = " ".repeat(26);
    let text = render(&finding, &context);
    assert_eq!(
        text,
        format!("warning  kvm              not usable\n{indent}so: slower\n{indent}do: another host\n")
    );
    assert_eq!(
        render(&Finding::ok("fuse", "usable"), &context),
        "ok       fuse             usable\n"
    );
}
