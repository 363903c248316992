use super::*;

/// Stands a shell script in for a program.
fn scripted(body: &str) -> (tempfile::TempDir, SystemCommands) {
    let dir = tempfile::tempdir().unwrap();
    // Written by another process: what a thread of this one starts meanwhile would have the file open for writing, and
    // then nobody may execute it.
    let written = std::process::Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#])
        .arg(dir.path().join("lvm"))
        .arg(body)
        .status();
    assert!(written.unwrap().success());
    let commands = SystemCommands::find_in(&[dir.path()], false);
    (dir, commands)
}

fn call(args: &[&str]) -> Invocation {
    Invocation::new(Program::Lvm, args.iter().copied())
}

#[tokio::test]
async fn a_program_gets_its_arguments_a_clean_environment_and_a_closed_input() {
    let (_dir, commands) =
        scripted(r#"echo "$1|$LC_ALL|$LVM_SUPPRESS_FD_WARNINGS|$DM_DISABLE_UDEV|$HOME"; cat"#);
    let said = commands.succeed(&call(&["one two"])).await.unwrap();
    assert_eq!(said, "one two|C|1|1|\n");
}

#[tokio::test]
async fn a_secret_goes_in_by_the_input_and_is_in_no_message() {
    let (_dir, commands) = scripted("cat; exit 3");
    let secret = call(&["open"]).with_input(Zeroizing::new("s3cret".to_owned()));
    let output = commands.run(&secret).await.unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (3, "s3cret"));
    assert!(!format!("{secret:?}").contains("s3cret"));
    let error = commands.succeed(&secret).await.unwrap_err();
    assert!(!error.to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_failure_names_command_exit_code_and_what_was_said() {
    let (_dir, commands) =
        scripted("echo '  WARNING: noise' >&2; echo '  Volume group vg0 not found' >&2; exit 5");
    let error = commands.succeed(&call(&["vgs", "vg0"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "lvm vgs vg0: exit code 5: Volume group vg0 not found"
    );
}

#[tokio::test]
async fn a_program_past_its_time_limit_is_killed() {
    let (dir, commands) = scripted(r#"echo $$ > "$1"; exec sleep 1000"#);
    let pid_file = dir.path().join("pid");
    let mut slow = call(&[pid_file.to_str().unwrap()]);
    slow.time_limit = Duration::from_millis(500);
    let error = commands.succeed(&slow).await.unwrap_err();
    assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_with_its_package() {
    let commands = SystemCommands::find_in(&[], true);
    let error = commands.succeed(&call(&["vgs"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "lvm is not installed; install the package lvm2"
    );
}
