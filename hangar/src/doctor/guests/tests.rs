use serde_json::json;

use super::*;

#[test]
fn the_verdict_on_kvm_is_read_with_its_reason() {
    let report =
        |accelerator: &str, reason: &str| json!({"accelerator": accelerator, "kvm": {"reason": reason}});
    assert_eq!(
        kvm_verdict(&report("kvm", "ran code")),
        (true, "ran code".to_owned())
    );
    assert_eq!(
        kvm_verdict(&report("tcg", "a guest hung")),
        (false, "a guest hung".to_owned())
    );
    assert_eq!(kvm_verdict(&json!({})), (false, String::new()));
}

#[test]
fn missing_assets_are_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::File::create(directory.path().join("vmlinux")).unwrap();
    let finding = assets(directory.path());
    assert_eq!(finding.verdict, Verdict::Missing);
    assert!(
        finding.found.ends_with("initramfs.cpio, qboot.rom"),
        "{}",
        finding.found
    );
}

#[tokio::test]
async fn a_missing_program_is_no_answer() {
    assert_eq!(run(Path::new("/nowhere/qemu"), &[]).await, None);
    assert_eq!(
        run(Path::new("/bin/echo"), &["hi".to_owned()]).await.as_deref(),
        Some("hi\n")
    );
}
