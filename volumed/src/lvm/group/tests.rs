use std::collections::VecDeque;
use std::sync::Mutex as Lines;

use async_trait::async_trait;

use super::*;

/// Answers LVM's commands as a group does whose state number is `seqno`, and `sync` with what stands in `syncs`.
#[derive(Debug, Default)]
struct Played {
    seqno: Lines<u64>,
    /// Exit codes; 0 when there are none left.
    syncs: Lines<VecDeque<i32>>,
    disks: Vec<PathBuf>,
    lines: Lines<Vec<String>>,
}

impl Played {
    fn new(disks: &[&Path]) -> Arc<Self> {
        Arc::new(Self {
            seqno: Lines::new(7),
            disks: disks.iter().map(|disk| disk.to_path_buf()).collect(),
            ..Self::default()
        })
    }

    /// Returns what was run since the last call, each by its command and its last argument.
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    fn somebody_changes_the_group(&self) {
        *self.seqno.lock().unwrap() += 1;
    }
}

#[async_trait]
impl Commands for Played {
    async fn run(&self, call: &Invocation) -> Result<Output, CommandError> {
        let said = |code, stdout| Output {
            code,
            stdout,
            stderr: "Input/output error".to_owned(),
        };
        let last = call.args.last().unwrap();
        self.lines
            .lock()
            .unwrap()
            .push(format!("{} {last}", call.args[0]));
        if call.program == Program::Sync {
            let code = self.syncs.lock().unwrap().pop_front().unwrap_or(0);
            return Ok(said(code, String::new()));
        }
        let seqno = *self.seqno.lock().unwrap();
        let json = match call.args[0].as_str() {
            "lvs" => serde_json::json!({"report": [{"lv": []}]}),
            "vgs" => serde_json::json!({"report": [{"vg": [{
                "vg_name": "vg0", "vg_uuid": "U", "vg_attr": "wz--n-", "vg_size": "8388608", "vg_free": "4194304",
                "vg_extent_size": "4194304", "vg_missing_pv_count": "0", "vg_seqno": seqno.to_string(),
            }]}]}),
            "pvs" => {
                let rows = self
                    .disks
                    .iter()
                    .map(|disk| serde_json::json!({ "pv_name": disk }));
                serde_json::json!({"report": [{"pv": rows.collect::<Vec<_>>()}]})
            }
            _ => {
                self.somebody_changes_the_group();
                return Ok(said(0, String::new()));
            }
        };
        Ok(said(0, json.to_string()))
    }
}

fn group(scope: Scope, played: &Arc<Played>) -> VolumeGroup {
    let settings = GroupSettings {
        vg: "vg0".to_owned(),
        scope,
        udev: false,
        mapper: PathBuf::from("/dev/mapper"),
    };
    VolumeGroup::new(settings, Arc::clone(played) as Arc<dyn Commands>)
}

#[tokio::test]
async fn a_state_of_the_group_is_flushed_once_before_it_is_told_whoever_made_it() {
    let played = Played::new(&[]);
    let group = group(Scope::Devices(vec!["/dev/null".into()]), &played);
    let read = ["lvs vg0", "vgs vg0"];
    let flushed = ["lvs vg0", "vgs vg0", "/dev/null /dev/null"];

    group.report().await.unwrap();
    assert_eq!(played.lines(), flushed, "who knows what was changed before us");
    group.report().await.unwrap();
    assert_eq!(played.lines(), read);

    played.somebody_changes_the_group();
    group.report().await.unwrap();
    assert_eq!(played.lines(), flushed);

    group.change("lvchange", &["vg0/a"], |_| Ok(())).await.unwrap();
    assert_eq!(played.lines(), [&["lvchange vg0/a"][..], &flushed].concat());
    group
        .change_first("lvchange", &["vg0/a"], |_| Ok(()))
        .await
        .unwrap();
    group.change("lvchange", &["vg0/b"], |_| Ok(())).await.unwrap();
    let both = ["lvchange vg0/a", "/dev/null /dev/null", "lvchange vg0/b"];
    assert_eq!(
        played.lines(),
        [&both[..], &flushed].concat(),
        "not two changes at once in a cache"
    );
}

#[tokio::test]
async fn what_could_not_be_flushed_is_not_told_and_is_flushed_by_the_next_reading() {
    let played = Played::new(&[]);
    let group = group(Scope::Devices(vec!["/dev/null".into()]), &played);
    played.syncs.lock().unwrap().push_back(1);
    let refused = group.report().await.unwrap_err();
    assert!(refused.to_string().contains("Input/output error"), "{refused}");
    played.lines();
    group.report().await.unwrap();
    assert_eq!(played.lines(), ["lvs vg0", "vgs vg0", "/dev/null /dev/null"]);
}

#[tokio::test]
async fn with_a_devices_file_lvm_is_asked_for_the_disks_and_one_that_is_gone_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (here, gone) = (dir.path().join("here"), dir.path().join("gone"));
    std::fs::File::create(&here).unwrap();
    let played = Played::new(&[&gone, &here]);
    let group = group(Scope::File("hangar.devices".to_owned()), &played);
    played.syncs.lock().unwrap().push_back(1);
    group.report().await.unwrap();
    let sync = |disk: &Path| format!("{0} {0}", disk.display());
    let asked = ["lvs vg0", "vgs vg0", "pvs vg_name=vg0"].map(str::to_owned);
    assert_eq!(played.lines(), [&asked[..], &[sync(&gone), sync(&here)]].concat());
}
