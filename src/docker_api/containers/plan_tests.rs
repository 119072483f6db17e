//! What bodies mean, and which are refused.

use fnctr_oci::{Mount, Resources};
use serde_json::{Value, json};

use super::*;
use crate::docker_api::json::Object;

fn planned(body: Value) -> Result<Plan, Refused> {
    let given = Object::of_body(body.to_string().as_bytes()).unwrap();
    let body = Body::read(&given)?;
    let around = Around {
        id: ContainerId::new("0123456789abcdef").unwrap(),
        name: ContainerName::new("web").unwrap(),
        cpus: 2,
        joined: ContainerId::new("other").ok(),
        lent: Vec::new(),
    };
    plan(&body, Reference::parse("busybox").unwrap(), around)
}

fn with_host(host: Value) -> Result<Plan, Refused> {
    planned(json!({ "Image": "busybox", "HostConfig": host }))
}

#[test]
fn nothing_asked_for_is_docker_s_default() {
    let plan = planned(json!({ "Image": "busybox" })).unwrap();
    assert_eq!(plan.config.hostname.as_deref(), Some("0123456789ab"));
    assert_eq!(plan.config.security.capabilities, Capabilities::Docker);
    assert!(!plan.config.security.no_new_privileges && !plan.init && plan.is_kept);
    assert_eq!(plan.config.resources, Resources::default());
    assert!(matches!(plan.network, Network::Attached { ref networks, .. } if networks.is_empty()));
}

/// The body that Fn's driver sends.
#[test]
fn a_function_s_container_has_all_its_limits() {
    let plan = planned(json!({
        "Hostname": "vm", "User": "1000:1000", "Memory": 268_435_456, "MemorySwap": 268_435_456, "KernelMemory": 268_435_456,
        "Cmd": null, "Image": "busybox", "Entrypoint": null, "AttachStdin": true, "OpenStdin": true, "StdinOnce": true,
        "HostConfig": {
            "CapDrop": ["all"], "RestartPolicy": {}, "LogConfig": { "Type": "none" }, "SecurityOpt": ["no-new-privileges"],
            "Memory": 268_435_456, "KernelMemory": 268_435_456, "MemorySwap": 268_435_456, "MemorySwappiness": 0, "Init": true,
            "CpuQuota": 150_000, "CpuPeriod": 100_000, "PidsLimit": 50, "ReadonlyRootfs": true,
            "Tmpfs": { "/tmp": "size=4m,nr_inodes=100" }, "NetworkMode": "none",
            "Ulimits": [{ "Name": "nofile", "Soft": 1024, "Hard": 2048 }],
        },
        "NetworkingConfig": { "EndpointsConfig": null },
    }))
    .unwrap();
    let Resources {
        memory,
        milli_cpus,
        pids,
        ..
    } = plan.config.resources;
    assert_eq!(
        (memory, milli_cpus, pids),
        (Some(256 << 20), Some(1500), Some(50))
    );
    assert_eq!(plan.config.security.capabilities, Capabilities::None);
    assert!(plan.config.security.no_new_privileges && plan.init && plan.config.readonly_rootfs);
    assert_eq!(plan.network, Network::None);
    assert_eq!(
        (plan.config.hostname.as_deref(), plan.config.user.as_deref()),
        (Some("vm"), Some("1000:1000"))
    );
    assert_eq!(
        (plan.config.rlimits[0].soft, plan.config.rlimits[0].hard),
        (1024, 2048)
    );
    assert!(matches!(
        plan.config.mounts[0],
        Mount::Tmpfs {
            size: Some(4_194_304),
            inodes: Some(100),
            ..
        }
    ));
    assert!(plan.config.command.is_none() && plan.config.entrypoint.is_none());
}

#[test]
fn an_entrypoint_of_one_empty_word_takes_the_image_s_away() {
    let plan = planned(json!({ "Image": "busybox", "Entrypoint": [""], "Cmd": "ls" })).unwrap();
    assert_eq!(plan.config.entrypoint, Some(Vec::new()));
    assert_eq!(plan.config.command, Some(vec!["ls".to_owned()]));
}

#[test]
fn networks_are_none_host_the_default_one_a_named_one_or_another_container_s() {
    let network = |mode: &str| with_host(json!({ "NetworkMode": mode })).map(|plan| plan.network);
    assert_eq!(network("none"), Ok(Network::None));
    assert_eq!(network("host"), Ok(Network::Host));
    let joined = Network::Of(ContainerId::new("other").unwrap());
    assert_eq!(network("container:web"), Ok(joined));
    for (mode, expected) in [
        ("default", vec![]),
        ("bridge", vec![]),
        ("mine", vec!["mine".to_owned()]),
    ] {
        let Ok(Network::Attached { networks, .. }) = network(mode) else {
            panic!("{mode}")
        };
        assert_eq!(networks, expected);
    }
    let both = json!({ "Image": "b", "Hostname": "h", "HostConfig": { "NetworkMode": "container:web" } });
    assert!(
        planned(both)
            .unwrap_err()
            .message
            .contains("hostname and the network mode")
    );
}

#[test]
fn bad_values_are_refused_in_docker_s_words() {
    for (host, status, says) in [
        (
            json!({ "Memory": 1000 }),
            400,
            "Minimum memory limit allowed is 6MB",
        ),
        (
            json!({ "Memory": 64 << 20, "MemorySwap": 32 << 20 }),
            400,
            "Minimum memoryswap limit should be larger",
        ),
        (
            json!({ "Memory": 64 << 20, "MemorySwap": 128 << 20 }),
            400,
            "do not swap",
        ),
        (
            json!({ "MemorySwappiness": 101 }),
            400,
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (
            json!({ "MemorySwappiness": 60 }),
            400,
            "HostConfig.MemorySwappiness",
        ),
        (
            json!({ "NanoCpus": 99_000_000_000_u64 }),
            400,
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs",
        ),
        (
            json!({ "CapAdd": ["NOSUCH"] }),
            400,
            "invalid CapAdd: unknown capability: \"CAP_NOSUCH\"",
        ),
        (
            json!({ "SecurityOpt": ["foo"] }),
            500,
            "invalid --security-opt 1: \"foo\"",
        ),
        (
            json!({ "SecurityOpt": ["apparmor=x"] }),
            400,
            "HostConfig.SecurityOpt",
        ),
        (
            json!({ "OomScoreAdj": 5000 }),
            400,
            "Invalid value 5000, range for oom score adj is [-1000, 1000]",
        ),
        (
            json!({ "ExtraHosts": ["foo"] }),
            400,
            "bad format for add-host: \"foo\"",
        ),
        (
            json!({ "Ulimits": [{ "Name": "bogus", "Soft": 1, "Hard": 1 }] }),
            400,
            "\"bogus\" is not a limit",
        ),
        (
            json!({ "StorageOpt": { "x": "1" } }),
            400,
            "HostConfig.StorageOpt",
        ),
        (
            json!({ "PortBindings": { "99999": [{}] } }),
            400,
            "invalid port specification: \"99999\"",
        ),
        (
            json!({ "Binds": ["/a:/b:badmode"] }),
            500,
            "invalid mode: badmode",
        ),
        (
            json!({ "Tmpfs": { "tmp": "" } }),
            400,
            "invalid mount path: 'tmp' mount path must be absolute",
        ),
    ] {
        let refused = with_host(host.clone()).unwrap_err();
        assert_eq!(refused.status.as_u16(), status, "{host}: {}", refused.message);
        assert!(refused.message.contains(says), "{host}: {}", refused.message);
    }
    for (body, says) in [
        (
            json!({ "Image": "b", "Env": ["=x"] }),
            "invalid environment variable: =x",
        ),
        (
            json!({ "Image": "b", "WorkingDir": "rel" }),
            "the working directory 'rel' is invalid",
        ),
        (
            json!({ "Image": "b", "Labels": { "io.fnctr.x": "1" } }),
            "fnctr's own",
        ),
    ] {
        assert!(planned(body).unwrap_err().message.contains(says));
    }
}

#[test]
fn a_body_comes_back_from_the_record_as_it_was() {
    let given = json!({
        "Image": "busybox", "Cmd": ["a"], "Labels": { "a": "b" }, "HostConfig": {
            "Binds": ["/a:/b"], "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080" }] }, "AutoRemove": true,
        },
    });
    let body = Body::read(&Object::of_body(given.to_string().as_bytes()).unwrap()).unwrap();
    let stored: Body = serde_json::from_value(serde_json::to_value(&body).unwrap()).unwrap();
    assert_eq!(stored, body);
}
