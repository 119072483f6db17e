//! What a function can read of its own limits: language runtimes size heaps and thread pools by `/sys/fs/cgroup`.

use fnctr::driver::{Status, Task};

use super::{Held, seen};
use crate::world::Stage;

/// The text of the first of these files that is there.
const FIRST: &str = r#"first() { for file in "$@"; do [ -e "/sys/fs/cgroup/$file" ] && cat "/sys/fs/cgroup/$file" && return; done; echo none; }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_function_reads_its_own_limits_where_language_runtimes_look_for_them() {
    let Some(stage) = Stage::set("a_function_reads_its_own_limits").await else {
        return;
    };
    let task = Task {
        memory: 64 << 20,
        cpus: 500,
        pids: 33,
        ..stage.task("")
    };
    let script = r#"
        echo memory=$(first memory.max memory/memory.limit_in_bytes)
        echo cpu=$(first cpu.max cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us)
        echo pids=$(first pids.max pids/pids.max)
        echo paths=$(cut -d: -f3 /proc/self/cgroup | sort -u)
    "#;
    let (said, result) = stage.says(task, &format!("{FIRST}{script}")).await;
    assert_eq!(result.status(), Status::Success, "{result:?}\n{said}");
    let cpu = ["cpu=50000 100000", "cpu=50000"];
    for one_of in [&["memory=67108864"][..], &cpu, &["pids=33"], &["paths=/"]] {
        let found = said.lines().any(|line| one_of.contains(&line));
        assert!(found, "none of {one_of:?} is in:\n{said}");
    }
    seen(&format!("from inside: {}", said.trim().replace('\n', ", ")));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_is_read_only_even_for_root_and_shows_no_other_container() {
    let trusted = Stage::with("the_view_is_read_only", |config| {
        config.disable_unprivileged_containers = true;
    });
    let Some(stage) = trusted.await else { return };
    let task = Task {
        id: "neighbour".into(),
        ..stage.task("")
    };
    let neighbour = Held::start(&stage, task, "echo up; read wait").await;
    neighbour.until_it_says("up").await;
    let script = r#"
        echo uid=$(id -u)
        for procs in $(find /sys/fs/cgroup/ -name cgroup.procs); do
            dir=${procs%/cgroup.procs}
            mkdir $dir/x 2>/dev/null && echo "made a cgroup in $dir"
            (echo 0 >$procs) 2>/dev/null && echo "wrote $procs"
            echo hierarchy
        done | sort | uniq -c | sed 's/^ *//'
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo "mounted it again"
        echo writable=$(grep ' - cgroup' /proc/self/mountinfo | grep -c '^[^ ]* [^ ]* [^ ]* [^ ]* [^ ]* rw')
        echo own=$(grep ' /sys/fs/cgroup' /proc/self/mountinfo | grep -c ' - cgroup')
        { find /sys/fs/cgroup/; cat /proc/self/cgroup /proc/self/mountinfo; } | grep neighbour
        true
    "#;
    let (said, result) = stage.says(stage.task(""), script).await;
    assert_eq!(result.status(), Status::Success, "{result:?}\n{said}");
    let lines: Vec<&str> = said.lines().collect();
    let [uid, hierarchies, writable, mounts] = lines[..] else {
        panic!("{said}")
    };
    assert_eq!((uid, writable), ("uid=0", "writable=0"), "{said}");
    // One directory per mount, so there is nothing below and nothing beside the function's own cgroup.
    let own = mounts.strip_prefix("own=").expect("a number");
    assert_ne!(own, "0", "{said}");
    assert_eq!(hierarchies, format!("{own} hierarchy"), "{said}");
    seen(&format!("{own} cgroup mounts, read-only, of one cgroup each"));
    neighbour.close().await;
    stage.strike().await;
}
