//! The laws of the driver contract, as one suite over `dyn Driver`: every driver runs the same ones.
//!
//! A driver's test gives a [`World`]; [`run_all`] takes each law through it, with a census before and after, and
//! reports by name what passed, what was skipped and why, and what failed. A law that a driver cannot show is skipped
//! with the world's own reason, never passed in silence.

#![expect(
    clippy::expect_used,
    reason = "a law fails by a panic that says what it expected"
)]

mod close;
mod endings;
mod faults;
mod freeze;
mod order;
mod streams;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::patience::patient;

#[allow(unused_imports, reason = "not every world makes the scripts itself")]
pub(crate) use world::SCRIPTS;
pub(crate) use world::{BadTask, Need, World};

/// No law may take longer; a driver that hangs is a driver that fails.
const LIMIT: Duration = Duration::from_secs(60);

/// The directory for the columns of the table of laws and drivers.
const TABLE: &str = "FNCTR_LAWS";

/// Why a law was not tried.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

type Verdict = Result<(), Skip>;
type Trial = Pin<Box<dyn Future<Output = Verdict> + Send>>;
type Law = Box<dyn Fn(Arc<dyn World>) -> Trial + Send>;

/// What became of each law.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) passed: Vec<&'static str>,
    pub(crate) skipped: Vec<(&'static str, String)>,
    pub(crate) failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Panics unless every law passed or was skipped.
    #[track_caller]
    pub(crate) fn assert_kept(&self) {
        let failed: Vec<_> = self
            .failed
            .iter()
            .map(|(law, why)| format!("{law}: {why}"))
            .collect();
        assert!(failed.is_empty(), "broken laws:\n  {}", failed.join("\n  "));
        assert!(!self.passed.is_empty(), "no law was tried");
    }

    /// Leaves the report as a column of the table that `tools/laws.sh` prints, if the environment names a directory for
    /// it. The heading is what the driver is, and what it is on.
    pub(crate) fn note(&self, heading: &str) {
        let Some(dir) = std::env::var_os(TABLE) else {
            return;
        };
        let kept = self.passed.iter().map(|law| format!("{law}\tkept\n"));
        let told = |(law, why): &(&str, String), verdict: &str| {
            format!("{law}\t{verdict}: {}\n", why.replace(['\n', '\t'], " "))
        };
        let skipped = self.skipped.iter().map(|law| told(law, "skipped"));
        let failed = self.failed.iter().map(|law| told(law, "BROKEN"));
        let mut lines: Vec<_> = kept.chain(skipped).chain(failed).collect();
        let order: Vec<_> = all().into_iter().map(|(law, _)| law).collect();
        lines.sort_by_key(|line| order.iter().position(|law| line.starts_with(&format!("{law}\t"))));
        std::fs::create_dir_all(&dir).expect("the directory of the table");
        let file = heading.replace([' ', '/'], "-");
        std::fs::write(
            std::path::Path::new(&dir).join(file),
            format!("{heading}\n{}", lines.concat()),
        )
        .expect("a column of the table");
    }

    /// The names of the laws that were skipped.
    pub(crate) fn skipped_names(&self) -> Vec<&'static str> {
        self.skipped.iter().map(|(law, _)| *law).collect()
    }
}

macro_rules! laws {
    ($($file:ident: $($law:ident),+;)+) => {
        vec![$($((stringify!($law), Box::new(|world| Box::pin($file::$law(world)) as Trial) as Law)),+),+]
    };
}

fn all() -> Vec<(&'static str, Law)> {
    laws! {
        order: a_step_before_its_turn_is_refused, a_closed_cookie_refuses_everything_but_close,
            options_are_open_until_create, a_missing_image_must_be_pulled_and_a_failed_pull_says_why,
            a_pulled_image_is_validated_again, an_interrupted_context_stops_the_step_and_says_how,
            steps_in_any_order_are_answered_by_the_table;
        endings: exit_code_0_is_success, another_exit_code_is_an_error, a_sigkill_is_not_blamed_on_memory,
            an_oom_kill_names_its_limit, a_passed_deadline_is_a_timeout, a_cancelled_wait_is_cancelled,
            the_context_of_run_is_watched, an_interruption_takes_back_a_success_but_not_a_failure,
            waiting_twice_gives_the_same, a_dropped_wait_is_harmless;
        streams: stdin_is_passed_on_and_ends, without_stdin_a_function_reads_the_end, the_two_outputs_stay_apart,
            null_streams_are_fine, a_megabyte_arrives_intact, all_output_is_delivered_before_the_result,
            a_writer_that_fails_is_an_error, the_environment_arrives, measurements_arrive;
        freeze: a_frozen_function_makes_no_progress, freezing_and_unfreezing_twice_is_fine,
            a_frozen_function_can_be_waited_for_and_closed,
            closing_wins_over_a_storm_of_freezes;
        close: closing_works_in_every_phase_and_twice, closing_ends_what_runs_and_whoever_waits,
            a_name_that_lives_is_not_given_twice, a_name_is_free_after_close,
            a_dropped_step_is_finished_or_undone, closing_does_not_wait_for_a_step_that_nobody_polls,
            closing_a_cookie_cleans_up_after_its_task,
            a_closed_driver_refuses_everything_but_the_close_of_a_cookie;
        faults: a_bad_task_is_named_and_leaves_nothing;
    }
}

/// Takes every law through this world.
pub(crate) async fn run_all(world: Arc<dyn World>) -> Report {
    let mut report = Report::default();
    for (name, law) in all() {
        let before = world.census().await;
        let mut trial = JoinSet::new();
        trial.spawn(tokio::time::timeout(patient(LIMIT), law(Arc::clone(&world))));
        let verdict = match trial.join_next().await {
            Some(Ok(Ok(verdict))) => verdict.map_err(|Skip(why)| (false, why)),
            Some(Ok(Err(_))) => Err((true, format!("not done after {:?}", patient(LIMIT)))),
            Some(Err(panic)) => Err((true, message(panic))),
            None => Err((true, "it never ran".to_owned())),
        };
        let after = world.census().await;
        let left: Vec<_> = after.difference(&before).cloned().collect();
        match verdict {
            Err((true, why)) => report.failed.push((name, why)),
            _ if !left.is_empty() => report
                .failed
                .push((name, format!("left behind: {}", left.join(", ")))),
            Err((false, why)) => report.skipped.push((name, why)),
            Ok(()) => report.passed.push(name),
        }
    }
    for (law, why) in &report.skipped {
        eprintln!("skipped {law}: {why}");
    }
    report
}

fn message(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "panicked".to_owned())
}
