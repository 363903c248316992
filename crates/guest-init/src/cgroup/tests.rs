use super::*;

#[test]
fn a_count_is_read_by_its_whole_name() {
    let text = "low 0\noom 3\noom_kill 1\noom_group_kill 7\n";
    assert_eq!(read_count(text, "oom_kill"), 1);
    assert_eq!(read_count(text, "oom"), 3);
    assert_eq!(read_count(text, "populated"), 0);
}

#[test]
fn a_workload_gets_what_is_left_but_for_a_reserve() {
    let info = |total: u64, available: u64| {
        format!("MemTotal: {total} kB\nMemFree: 7 kB\nMemAvailable:  {available} kB\n")
    };
    assert_eq!(memory_limit(&info(128 * 1024, 80 * 1024)), Some(76 << 20));
    assert_eq!(memory_limit(&info(1024 * 1024, 900 * 1024)), Some(884 << 20));
    assert_eq!(memory_limit(&info(32 * 1024, 6 * 1024)), Some(3 << 20));
    assert_eq!(memory_limit("MemTotal: 1 kB\n"), None);
}
