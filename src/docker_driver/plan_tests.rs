//! Tests of the translation: whole bodies as they are sent.

use serde_json::{Value, json};

use super::*;
use crate::driver::{LoggerConfig, LoggerTag, Task};

fn task() -> Task {
    Task {
        id: "c1".into(),
        image: "busybox".into(),
        disable_net: true,
        ..Task::default()
    }
}

fn body(task: &Task, config: &Config) -> Value {
    serde_json::to_value(&plan(task, config).unwrap().options.body).unwrap()
}

#[test]
fn nothing_set_is_nothing_asked_for_and_the_least_privilege() {
    let expected = json!({
        "Image": "busybox", "User": "1000:1000",
        "HostConfig": {
            "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "Init": true, "NetworkMode": "none",
            "LogConfig": { "Type": "none" },
        },
    });
    assert_eq!(body(&task(), &Config::default()), expected);
}

#[test]
fn everything_that_a_task_and_a_configuration_can_ask_for_is_in_the_body() {
    let full = Task {
        command: " sh  /run.sh ".into(),
        env_vars: [("A".to_owned(), "b=c".to_owned())].into(),
        memory: 64 << 20,
        cpus: 1500,
        pids: 10,
        fs_size: 5,
        tmpfs_size: 16,
        open_files: Some(100),
        locked_memory: Some(u64::MAX),
        pending_signals: Some(7),
        message_queue: Some(0),
        work_dir: Some("/work".into()),
        volumes: vec![
            ("/data".into(), "/mnt:ro".into()),
            ("/more".into(), "/more".into()),
        ],
        uds_docker_path: Some("/run/fn/1".into()),
        uds_docker_dest: Some("/tmp/iofs".into()),
        logger_config: LoggerConfig {
            url: " tcp://logs:514 ".into(),
            tags: vec![LoggerTag {
                name: "app_id".into(),
                value: "a".into(),
            }],
        },
        disable_net: false,
        ..task()
    };
    let config = Config {
        enable_readonly_rootfs: true,
        max_tmpfs_inodes: 9,
        container_label_tag: "tag".into(),
        instance_id: "i-1".into(),
        disable_unprivileged_containers: true,
        ..Config::default()
    };
    let bind = |source: &str, target: &str| json!({ "Type": "bind", "Source": source, "Target": target });
    let mut data = bind("/data", "/mnt");
    data["ReadOnly"] = json!(true);
    let expected = json!({
        "Image": "busybox", "Cmd": ["sh", "/run.sh"], "Env": ["A=b=c"], "WorkingDir": "/work",
        "Labels": { "fn-agent-classifier": "tag", "fn-agent-instance": "i-1" },
        "HostConfig": {
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "MemorySwappiness": 0, "CpuQuota": 150_000,
            "CpuPeriod": 100_000, "PidsLimit": 10, "ReadonlyRootfs": true, "Init": true,
            "Ulimits": [
                { "Name": "nofile", "Soft": 100, "Hard": 100 },
                { "Name": "sigpending", "Soft": 7, "Hard": 7 },
                { "Name": "msgqueue", "Soft": 0, "Hard": 0 },
            ],
            "Tmpfs": { "/tmp": "size=16m,nr_inodes=9,mode=1777" },
            "Mounts": [data, bind("/more", "/more"), bind("/run/fn/1", "/tmp/iofs")],
            "StorageOpt": { "size": "5M" },
            "LogConfig": { "Type": "syslog", "Config": {
                "syslog-address": "tcp://logs:514", "syslog-facility": "user", "syslog-format": "rfc5424",
                "tag": "app_id=a",
            } },
        },
    });
    assert_eq!(body(&full, &config), expected);
    let plan = plan(&full, &config).unwrap();
    assert_eq!(plan.network, Wish::Any(Vec::new()));
    assert_eq!(plan.syslog.as_deref(), Some("tcp://logs:514"));
}

#[test]
fn tmp_is_in_memory_if_it_has_a_size_or_the_root_is_read_only() {
    let tmp = |task: Task, config: &Config| body(&task, config)["HostConfig"]["Tmpfs"]["/tmp"].clone();
    let sized = Task {
        tmpfs_size: 16,
        ..task()
    };
    assert_eq!(tmp(sized, &Config::default()), "size=16m,mode=1777");
    let readonly = Config {
        enable_readonly_rootfs: true,
        ..Config::default()
    };
    assert_eq!(tmp(task(), &readonly), "mode=1777");
    let inodes = Config {
        max_tmpfs_inodes: 9,
        ..Config::default()
    };
    assert_eq!(tmp(task(), &inodes), Value::Null);
}

#[test]
fn a_network_is_none_the_host_s_or_chosen_when_the_container_is_created() {
    let wish = |disable_net, docker_networks: &str| {
        let task = Task {
            disable_net,
            ..task()
        };
        let config = Config {
            docker_networks: docker_networks.to_owned(),
            ..Config::default()
        };
        let plan = plan(&task, &config)?;
        let mode = plan.options.body.host_config.unwrap().network_mode;
        Ok::<_, Error>((plan.network, mode))
    };
    let named = |mode: &str| (Wish::Named, Some(mode.to_owned()));
    assert_eq!(wish(true, "a b").unwrap(), named("none"));
    assert_eq!(wish(false, "none").unwrap(), named("none"));
    assert_eq!(wish(false, "host").unwrap(), named("host"));
    let any = |networks: &[&str]| {
        (
            Wish::Any(networks.iter().map(|n| (*n).to_owned()).collect()),
            None,
        )
    };
    assert_eq!(wish(false, "").unwrap(), any(&[]));
    assert_eq!(wish(false, " a  b ").unwrap(), any(&["a", "b"]));
    assert_eq!(
        wish(false, "a host").unwrap_err().kind(),
        ErrorKind::InvalidConfig
    );
}

#[test]
fn what_cannot_be_is_refused_before_the_engine_sees_it() {
    let refused = |task: Task| plan(&task, &Config::default()).unwrap_err();
    for (task, names) in [
        (
            Task {
                id: "../c1".into(),
                ..task()
            },
            "../c1",
        ),
        (
            Task {
                id: "c".into(),
                ..task()
            },
            "two characters",
        ),
        (
            Task {
                image: String::new(),
                ..task()
            },
            "image",
        ),
        (
            Task {
                image: "a/../b".into(),
                ..task()
            },
            "a/../b",
        ),
        (
            Task {
                volumes: vec![("/a".into(), "b".into())],
                ..task()
            },
            "absolute",
        ),
        (
            Task {
                volumes: vec![("/a".into(), "/b:z".into())],
                ..task()
            },
            "\"z\"",
        ),
        (
            Task {
                uds_docker_path: Some("/run/fn".into()),
                ..task()
            },
            "where to mount",
        ),
    ] {
        let error = refused(task);
        assert_eq!(error.kind(), ErrorKind::InvalidTask, "{error:?}");
        assert!(error.report().contains(names), "{names}: {error:?}");
    }
}

#[test]
fn a_limit_that_no_signed_number_holds_is_the_largest_there_is() {
    let huge = Task {
        memory: u64::MAX,
        cpus: u64::MAX,
        ..task()
    };
    let host = &body(&huge, &Config::default())["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["CpuQuota"]),
        (&json!(i64::MAX), &json!(i64::MAX))
    );
}
