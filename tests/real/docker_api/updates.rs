//! Limits that change while a container exists.

use serde_json::{Value, json};

use super::execs::ran;
use super::wire::Docker;
use crate::cli::fnctr;
use crate::world::Stage;

/// The limits as the container sees them, on both versions of cgroups: memory, processes, and the quota in microseconds.
const SEEN: &str = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; cat pids/pids.max pids.max 2>/dev/null; \
                    cat cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us cpu.max 2>/dev/null | head -n 1";

#[track_caller]
fn seen(docker: &Docker) -> Vec<String> {
    let (out, err, code) = ran(docker, "web", &["sh", "-c", SEEN]);
    assert_eq!((err.as_str(), &code), ("", &json!(0)), "{out}");
    out.split_whitespace().take(3).map(str::to_owned).collect()
}

fn shown(docker: &Docker) -> [Value; 3] {
    let inspected = docker.get("/containers/web/json").json();
    ["Memory", "PidsLimit", "NanoCpus"].map(|name| inspected["HostConfig"][name].clone())
}

#[track_caller]
fn updated(docker: &Docker, body: &Value) {
    let said = docker.post("/containers/web/update", body);
    assert_eq!((said.status, said.json()), (200, json!({ "Warnings": null })));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs_and_last_for_its_later_runs() {
    let Some(stage) = Stage::set("docker_update").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create(
        "web",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Memory": 64 << 20, "PidsLimit": 20 } }),
    );
    docker.done("POST", "/containers/web/start");
    let mut events = docker.follow("GET", "/events?filters=%7B%22event%22:%5B%22update%22%5D%7D");
    updated(
        &docker,
        &json!({ "Memory": 128 << 20, "MemorySwap": 0, "PidsLimit": 30, "NanoCpus": 500_000_000_u64,
            "RestartPolicy": { "Name": "" } }),
    );
    assert_eq!(events.json()["Actor"]["ID"], json!(id));
    assert_eq!(seen(&docker), ["134217728", "30", "50000"]);
    assert_eq!(shown(&docker), [json!(128 << 20), json!(30), json!(500_000_000)]);
    // A change of the command is shown here, too.
    let arguments = ["update", "--memory", "96m", "--pids", "unlimited", "web"];
    let done = fnctr(&stage, &arguments).output().expect("to run fnctr");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.trim() == id, "{done:?}");
    assert_eq!(seen(&docker)[..2], ["100663296", "max"]);
    assert_eq!(shown(&docker), [json!(96 << 20), Value::Null, json!(500_000_000)]);
    docker.done("POST", "/containers/web/stop?t=0");
    updated(&docker, &json!({ "Memory": 80 << 20, "PidsLimit": 25 }));
    docker.done("POST", "/containers/web/start");
    assert_eq!(seen(&docker), ["83886080", "25", "50000"]);
    assert_eq!(shown(&docker), [json!(80 << 20), json!(25), json!(500_000_000)]);
    for (body, status, says) in [
        (json!({ "Memory": 1024 }), 400, "Minimum memory limit allowed"),
        (json!({ "NanoCpus": 900_000_000_000_u64 }), 400, "range of CPUs"),
        (json!({ "CpuQuota": 1000 }), 400, "NanoCPUs has already been set"),
        (json!({ "CpusetCpus": "0-99999" }), 400, "this host has"),
        (json!({ "BlkioWeight": 500 }), 400, "BlkioWeight is not served"),
        (json!({ "PidsLimit": "many" }), 400, "PidsLimit"),
    ] {
        let said = docker.post("/containers/web/update", &body);
        assert_eq!(said.status, status, "{body}: {said:?}");
        assert!(said.message().contains(says), "{body}: {}", said.message());
    }
    assert_eq!(docker.post("/containers/none/update", &json!({})).status, 404);
    assert_eq!(seen(&docker), ["83886080", "25", "50000"]);
    docker.done("DELETE", "/containers/web?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_kernel_refuses_is_not_on_the_record() {
    let Some(stage) = Stage::set("docker_update_refused").await else {
        return;
    };
    // On v2, the kernel kills processes instead.
    if std::path::Path::new("/sys/fs/cgroup/memory").is_dir() {
        let docker = Docker::serve(&stage);
        docker.create(
            "web",
            json!({ "Cmd": ["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=32; touch /full; exec sleep 1000"],
                "HostConfig": { "Memory": 64 << 20 } }),
        );
        docker.done("POST", "/containers/web/start");
        ran(
            &docker,
            "web",
            &["sh", "-c", "until [ -e /full ]; do sleep 0.1; done"],
        );
        let said = docker.post("/containers/web/update", &json!({ "Memory": 8 << 20 }));
        assert_eq!(said.status, 500, "{said:?}");
        assert!(said.message().contains("unable to set memory limit"), "{said:?}");
        assert_eq!(shown(&docker)[0], json!(64 << 20));
        assert_eq!(seen(&docker)[0], "67108864");
        docker.done("DELETE", "/containers/web?force=1");
        docker.end();
    }
    stage.strike().await;
}
