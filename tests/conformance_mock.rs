//! The mock keeps the laws of the contract; and the suite notices when somebody does not.

mod conformance;
#[path = "support/patience.rs"]
mod patience;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conformance::{BadTask, Need, SCRIPTS, World, run_all};
use fnctr::driver::{
    Cookie, Driver, Error, ErrorKind, MockAction, MockDriver, MockOptions, MockProgram, MockSetup, Stat,
    Task, Timestamp, metric,
};

const HERE: &str = "localhost/busybox";
const REMOTE: &str = "registry.example/team/fn:v1";

struct MockWorld {
    driver: Arc<MockDriver>,
    setup: MockSetup,
    others: Mutex<Vec<Arc<MockDriver>>>,
    lacking: Option<Need>,
    ids: AtomicU32,
}

impl MockWorld {
    fn new(programs: BTreeMap<String, MockProgram>) -> Self {
        let setup = MockSetup {
            images: Some(BTreeSet::from([HERE.to_owned()])),
            registry: BTreeSet::from([REMOTE.to_owned()]),
            programs: Some(programs),
            ..MockSetup::default()
        };
        Self {
            driver: Arc::new(MockDriver::new(setup.clone())),
            setup,
            others: Mutex::default(),
            lacking: None,
            ids: AtomicU32::new(0),
        }
    }
}

/// What the commands of the laws do, in the mock's words.
fn programs() -> BTreeMap<String, MockProgram> {
    let sleep = |ms| MockAction::Sleep(Duration::from_millis(ms));
    let exit = |exit_code| MockProgram {
        exit_code,
        ..MockProgram::default()
    };
    let does = |actions| MockProgram {
        actions,
        exit_code: 0,
    };
    let both = vec![
        MockAction::Stdout(b"out\n".to_vec()),
        MockAction::Stderr(b"err\n".to_vec()),
    ];
    let counter = (0..2000).flat_map(|n| [MockAction::Stdout(format!("{n}\n").into_bytes()), sleep(10)]);
    let mut megabyte: Vec<u8> = (1..=200_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    megabyte.truncate(1 << 20);
    let stat = |ms| {
        let metrics = [
            (metric::MEM_LIMIT, 64 << 20),
            (metric::MEM_USAGE, 1),
            (metric::CPU_TOTAL, 1),
        ];
        MockAction::Stat(Stat {
            timestamp: Timestamp::from_unix_ms(ms),
            metrics: metrics
                .into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
        })
    };
    [
        ("/bin/true", exit(0)),
        ("/bin/false", exit(1)),
        ("/bin/cat", does(vec![MockAction::Echo])),
        ("/bin/sleep 1", does(vec![sleep(1000)])),
        ("/bin/sleep 3", does(vec![stat(1), sleep(10), stat(2)])),
        ("/bin/sleep 60", does(vec![sleep(60_000)])),
        ("/scripts/exit7", exit(7)),
        ("/scripts/killed", exit(137)),
        ("/scripts/oom", does(vec![MockAction::OutOfMemory])),
        ("/scripts/both", does(both)),
        ("/scripts/counter", does(counter.collect())),
        ("/scripts/megabyte", does(vec![MockAction::Stdout(megabyte)])),
        (
            "/scripts/env",
            does(vec![MockAction::PrintEnv("FNCTR_PROBE".to_owned())]),
        ),
    ]
    .into_iter()
    .map(|(command, program)| (command.to_owned(), program))
    .collect()
}

#[async_trait]
impl World for MockWorld {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::clone(&self.driver) as Arc<dyn Driver>
    }

    async fn another(&self) -> Arc<dyn Driver> {
        let other = Arc::new(MockDriver::new(self.setup.clone()));
        self.others
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&other));
        other
    }

    fn fresh_id(&self) -> String {
        format!("c{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn image(&self) -> String {
        HERE.to_owned()
    }

    fn missing_image(&self) -> String {
        "registry.example/no/body:v1".to_owned()
    }

    fn pullable_image(&self) -> String {
        REMOTE.to_owned()
    }

    fn lacks(&self, need: Need) -> Option<String> {
        (self.lacking == Some(need)).then(|| format!("this world has no {need:?}"))
    }

    fn bad_tasks(&self) -> Vec<BadTask> {
        vec![
            BadTask {
                what: "a command that the image does not have",
                task: self.task("/bin/nobody --at home"),
                kind: ErrorKind::InvalidTask,
                names: "/bin/nobody".to_owned(),
            },
            BadTask {
                what: "an id that is none",
                task: Task {
                    id: "../c1".to_owned(),
                    ..self.task("/bin/true")
                },
                kind: ErrorKind::InvalidTask,
                names: "../c1".to_owned(),
            },
        ]
    }

    fn touch_options(&self, cookie: &dyn Cookie) -> Result<(), Error> {
        cookie.change_options(|options: &mut MockOptions| {
            options.env.insert("TOUCHED".to_owned(), "yes".to_owned());
        })
    }

    fn options_are_touched(&self, cookie: &dyn Cookie) -> bool {
        let options: Option<MockOptions> = cookie.options();
        options.is_some_and(|options| options.env.contains_key("TOUCHED"))
    }

    async fn census(&self) -> BTreeSet<String> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let drivers = others.iter().chain([&self.driver]);
        drivers.flat_map(|driver| driver.containers()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_keeps_every_law() {
    let world = MockWorld::new(programs());
    let driver = Arc::clone(&world.driver);
    let report = run_all(Arc::new(world)).await;
    report.note("mock");
    report.assert_kept();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    driver
        .close(&fnctr::Context::timeout(Duration::from_secs(60)))
        .await
        .expect("nothing runs on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_law_that_a_world_cannot_show_is_reported_as_skipped() {
    let world = MockWorld {
        lacking: Some(Need::MemoryLimit),
        ..MockWorld::new(programs())
    };
    let report = run_all(Arc::new(world)).await;
    report.assert_kept();
    assert_eq!(report.skipped_names(), ["an_oom_kill_names_its_limit"]);
}

/// A suite that cannot fail shows nothing: each of these worlds breaks a few laws, and exactly those are reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_driver_is_caught_by_name() {
    let mut broken = programs();
    broken.insert("/bin/false".to_owned(), MockProgram::default());
    broken.insert("/bin/cat".to_owned(), MockProgram::default());
    broken.insert("/scripts/killed".to_owned(), programs()["/scripts/oom"].clone());
    broken.insert(
        "/scripts/megabyte".to_owned(),
        programs()["/scripts/both"].clone(),
    );
    broken.insert("/bin/nobody --at home".to_owned(), MockProgram::default());
    let report = run_all(Arc::new(MockWorld::new(broken))).await;
    let failed: Vec<_> = report.failed.iter().map(|(law, _)| *law).collect();
    assert_eq!(
        failed,
        [
            "another_exit_code_is_an_error",
            "a_sigkill_is_not_blamed_on_memory",
            "stdin_is_passed_on_and_ends",
            "a_megabyte_arrives_intact",
            "all_output_is_delivered_before_the_result",
            "a_bad_task_is_named_and_leaves_nothing",
        ]
    );
}

#[test]
fn every_script_of_the_laws_is_ready_to_be_copied_into_an_image() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scripts");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).expect("fixtures/scripts") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        let text = std::fs::read_to_string(entry.path()).expect("a text");
        assert!(text.starts_with("#!/bin/sh\n"), "{name}");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name} is not executable");
        names.insert(name);
    }
    assert_eq!(names, SCRIPTS.into_iter().map(str::to_owned).collect());
}
