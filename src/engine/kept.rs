//! What is kept of a container on its record while it does not run: the plan, as far as a later run needs it, how the
//! last run went, and why the last start failed.
//!
//! Only containers that are made to be kept have this, as extensions of the record. The plan is written once. The
//! last run is written before a process is made, and again when its end is known, so a record with "started" and
//! without a process belongs to a run whose end was not recorded: the host went down, or the process that started it
//! was killed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use fnctr_oci::{ContainerConfig, Resources};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::health::HealthCheck;
use super::label;
use super::log_plan::LogPlan;
use super::plan::{Network, Plan};
use super::restart::{RestartPolicy, Restarts};
use super::volume_use;
use super::wait::Exit;
use crate::containerd::{Field, Record, Session};
use crate::image::Reference;
use crate::{ContainerName, Context, clock};

/// The extension with the plan.
pub(super) const PLAN: &str = "io.fnctr.plan";
/// The extension with what a front door keeps.
pub(super) const FRONT: &str = "io.fnctr.front";
/// The extension with the last run.
const LAST_RUN: &str = "io.fnctr.last-run";
/// The extension with the reason why the last start failed; empty if it did not.
const START_ERROR: &str = "io.fnctr.start-error";
/// The extension with what is known of its restarts; none for a container that was never restarted or stopped.
const RESTARTS: &str = "io.fnctr.restarts";

/// The last run of a kept container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LastRun {
    /// It has never run.
    #[default]
    Never,
    /// Its process was started, or was about to be.
    Started {
        /// When, by the host's clock.
        at: SystemTime,
    },
    /// Its process has ended.
    Ended(RunEnd),
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunEnd {
    /// When it was started, by the host's clock.
    pub(crate) started_at: Option<SystemTime>,
    /// When its process ended, by containerd's clock.
    pub(crate) ended_at: Option<SystemTime>,
    /// The exit code, 128 + N for signal N; `None` if it is lost.
    pub(crate) code: Option<u32>,
    /// Whether memory ran out; `None` if that is not known.
    pub(crate) oom: Option<bool>,
}

/// The part of a plan that is not in other fields of the record.
#[derive(Debug, Serialize, Deserialize)]
struct SavedPlan {
    config: ContainerConfig,
    network: Network,
    init: bool,
    writable: Vec<PathBuf>,
    hosts: Vec<(String, IpAddr)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogPlan>,
    #[serde(default, skip_serializing_if = "is_no")]
    restart: RestartPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aliases: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<HealthCheck>,
}

fn is_no(policy: &RestartPolicy) -> bool {
    *policy == RestartPolicy::No
}

/// Why the plan on a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlan {
    /// It is removed at its end.
    #[error("it was not made to be kept")]
    NotKept,
    /// The plan is not one of this version.
    #[error(
        "another version of fnctr made it, and this one cannot read its plan; start it with that version, or make it anew"
    )]
    Unreadable(#[source] serde_json::Error),
    /// The record names no image.
    #[error("the name of its image, {image:?}, is not a valid image name")]
    Image {
        /// The text on the record.
        image: String,
    },
}

/// The extensions of a new record.
pub(super) fn extensions(plan: &Plan, last: &LastRun) -> Result<BTreeMap<String, Vec<u8>>> {
    let saved = SavedPlan {
        config: plan.config.clone(),
        network: plan.network.clone(),
        init: plan.init,
        writable: plan.writable.clone(),
        hosts: plan.hosts.clone(),
        log: plan.log.clone(),
        restart: plan.restart,
        aliases: plan.aliases.clone(),
        health: plan.health.clone(),
    };
    let internal = |error| Error::new(Step::Record, &plan.id, Kind::Internal, error);
    let front = plan.front.as_ref().map(serde_json::to_vec).transpose();
    let front = front.map_err(internal)?.map(|front| (FRONT.to_owned(), front));
    let plan = serde_json::to_vec(&saved).map_err(internal)?;
    let last = serde_json::to_vec(last).map_err(internal)?;
    let own = [(PLAN.to_owned(), plan), (LAST_RUN.to_owned(), last)];
    Ok(own.into_iter().chain(front).collect())
}

/// What a front door keeps of its request, if the container was made by one.
pub(super) fn front_of<T: DeserializeOwned>(record: &Record) -> Option<T> {
    let front = record.extensions.get(FRONT)?;
    serde_json::from_slice(front)
        .inspect_err(
            |error| tracing::debug!(id = %record.id, %error, "cannot read what the front door keeps"),
        )
        .ok()
}

/// Whether the container is kept after its end.
pub(super) fn is_kept(record: &Record) -> bool {
    record.labels.contains_key(label::KEPT)
}

/// Whether a kept container has a run whose end is not written.
pub(super) fn has_run(record: &Record) -> bool {
    record
        .labels
        .get(label::KEPT)
        .is_some_and(|kept| kept == label::KEPT_WITH_RUN)
}

/// The last run of a kept container, and `None` for any other. A value of another version of fnctr counts as a run
/// whose end is lost.
pub(super) fn last_run(record: &Record) -> Option<LastRun> {
    if !is_kept(record) {
        return None;
    }
    let text = record.extensions.get(LAST_RUN).map_or(&[][..], Vec::as_slice);
    let last = serde_json::from_slice(text).unwrap_or_else(|error| {
        tracing::debug!(id = %record.id, %error, "cannot read how the last run went");
        LastRun::Ended(RunEnd::default())
    });
    Some(last)
}

/// The plan of a kept container.
///
/// # Errors
/// [`Kind::OutOfOrder`] if the container was not made to be kept.
pub(super) fn plan_of(record: &Record) -> Result<Plan> {
    let fail = |kind, why| Error::new(Step::Record, &record.id, kind, why);
    let Some(saved) = record.extensions.get(PLAN).filter(|_| is_kept(record)) else {
        return Err(fail(Kind::OutOfOrder, NoPlan::NotKept));
    };
    let saved: SavedPlan =
        serde_json::from_slice(saved).map_err(|error| fail(Kind::Unsupported, NoPlan::Unreadable(error)))?;
    let image = Reference::parse(&record.image).map_err(|_| {
        let image = record.image.clone();
        fail(Kind::Internal, NoPlan::Image { image })
    })?;
    let volumes =
        volume_use::of_record(record).map_err(|error| fail(Kind::Unsupported, NoPlan::Unreadable(error)))?;
    let mut labels = record.labels.clone();
    let fs_size = labels.get(label::FS_SIZE).and_then(|bytes| bytes.parse().ok());
    let name = labels
        .get(label::NAME)
        .and_then(|name| ContainerName::new(name).ok());
    labels.retain(|name, _| !name.starts_with(label::OWN));
    Ok(Plan {
        id: record.id.clone(),
        image,
        config: saved.config,
        network: saved.network,
        init: saved.init,
        labels,
        fs_size,
        volumes,
        writable: saved.writable,
        hosts: saved.hosts,
        custody: None,
        is_kept: true,
        is_checked_at_start: false,
        log: saved.log,
        restart: saved.restart,
        aliases: saved.aliases,
        health: saved.health,
        front: front_of(record),
        name,
    })
}

/// Sets the limits, and the restart policy if one is given, in the plan of a kept container. The record is written
/// afterwards. The record of any other container has no plan.
pub(super) fn set_plan(record: &mut Record, limits: Resources, restart: Option<RestartPolicy>) -> Result<()> {
    if !is_kept(record) {
        return Ok(());
    }
    let Some(saved) = record.extensions.get(PLAN) else {
        return Ok(());
    };
    let mut saved: SavedPlan = serde_json::from_slice(saved).map_err(|error| {
        Error::new(
            Step::Record,
            &record.id,
            Kind::Unsupported,
            NoPlan::Unreadable(error),
        )
    })?;
    saved.config.resources = limits;
    saved.restart = restart.unwrap_or(saved.restart);
    let saved = serde_json::to_vec(&saved)
        .map_err(|error| Error::new(Step::Record, &record.id, Kind::Internal, error))?;
    record.extensions.insert(PLAN.to_owned(), saved);
    Ok(())
}

/// Sets the last run on a record that is written afterwards, with the returned fields.
pub(super) fn set_last_run(record: &mut Record, last: &LastRun) -> Result<[Field; 2]> {
    let text = serde_json::to_vec(last)
        .map_err(|error| Error::new(Step::Record, &record.id, Kind::Internal, error))?;
    record.extensions.insert(LAST_RUN.to_owned(), text);
    record
        .labels
        .insert(label::KEPT.to_owned(), last.label().to_owned());
    Ok([Field::Labels, Field::Extension(LAST_RUN)])
}

/// What is known of the restarts of a kept container.
pub(super) fn restarts(record: &Record) -> Restarts {
    let text = record.extensions.get(RESTARTS);
    text.and_then(|text| serde_json::from_slice(text).ok())
        .unwrap_or_default()
}

/// Sets what is known of the restarts, on a record that is written afterwards, with the returned field if that changes
/// anything.
pub(super) fn set_restarts(record: &mut Record, known: Restarts) -> Result<Option<Field>> {
    if restarts(record) == known {
        return Ok(None);
    }
    let text = serde_json::to_vec(&known)
        .map_err(|error| Error::new(Step::Record, &record.id, Kind::Internal, error))?;
    record.extensions.insert(RESTARTS.to_owned(), text);
    Ok(Some(Field::Extension(RESTARTS)))
}

/// Why the last start of a kept container failed, if it did.
pub(super) fn start_error(record: &Record) -> Option<String> {
    let text = record.extensions.get(START_ERROR)?;
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
}

/// Sets why the last start failed, on a record that is written afterwards, with the returned field if that changes
/// anything.
pub(super) fn set_start_error(record: &mut Record, error: Option<String>) -> Option<Field> {
    if start_error(record) == error {
        return None;
    }
    let text = error.unwrap_or_default().into_bytes();
    record.extensions.insert(START_ERROR.to_owned(), text);
    Some(Field::Extension(START_ERROR))
}

/// Writes the end of the last run.
///
/// # Cancellation
/// Not safe to drop: the effect is then unknown.
pub(super) async fn write_end(
    session: &Session,
    ctx: &Context,
    record: &mut Record,
    end: &LastRun,
) -> Result<()> {
    // A run that has ended needs no deadline.
    record.labels.remove(label::DEADLINE);
    let fields = set_last_run(record, end)?;
    let written = session.containers().update(ctx, record, &fields).await;
    written.at(Step::Record, &record.id)
}

impl LastRun {
    /// A run that begins now.
    pub(super) fn now() -> Self {
        Self::Started { at: clock::now() }
    }

    /// The value of [`label::KEPT`] that goes with it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Started { .. } => label::KEPT_WITH_RUN,
            Self::Never | Self::Ended(_) => label::KEPT_WITHOUT_RUN,
        }
    }

    /// When the run was started.
    pub(crate) fn started_at(&self) -> Option<SystemTime> {
        match self {
            Self::Never => None,
            Self::Started { at } => Some(*at),
            Self::Ended(end) => end.started_at,
        }
    }

    /// Its exit code, if it has ended and the code is known.
    pub(super) fn code(&self) -> Option<u32> {
        match self {
            Self::Ended(end) => end.code,
            Self::Never | Self::Started { .. } => None,
        }
    }

    /// The same run, after it has ended.
    pub(super) fn ended(&self, exit: &Exit) -> Self {
        Self::Ended(RunEnd {
            started_at: self.started_at(),
            ended_at: exit.at,
            code: exit.code,
            oom: exit.oom.as_ref().map(|count| count.kills > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::ContainerId;

    fn plan() -> Plan {
        Plan {
            id: ContainerId::new("c1").unwrap(),
            image: Reference::parse("busybox").unwrap(),
            config: ContainerConfig {
                command: Some(vec!["echo".to_owned(), "a b".to_owned()]),
                hostname: Some("h".to_owned()),
                ..ContainerConfig::default()
            },
            network: Network::Attached {
                networks: vec!["n".to_owned()],
                ports: vec!["127.0.0.1:80:8080/udp".parse().unwrap()],
                pooled: false,
            },
            init: true,
            labels: [("mine".to_owned(), "1".to_owned())].into(),
            fs_size: Some(1 << 20),
            volumes: vec![volume_use::VolumeUse::new("data".parse().unwrap(), "/d")],
            writable: vec!["/w".into()],
            hosts: vec![("db".to_owned(), "10.0.0.1".parse().unwrap())],
            custody: None,
            is_kept: true,
            is_checked_at_start: false,
            log: None,
            restart: RestartPolicy::OnFailure { most: Some(3) },
            aliases: Some(vec!["db".to_owned()]),
            health: Some(HealthCheck {
                command: vec!["true".to_owned()],
                retries: 2,
                ..HealthCheck::default()
            }),
            front: Some(serde_json::json!({ "Image": "busybox" })),
            name: Some(ContainerName::new("web_1").unwrap()),
        }
    }

    fn record(plan: &Plan, last: &LastRun) -> Record {
        let mut labels = plan.labels.clone();
        labels.insert(label::KEPT.to_owned(), last.label().to_owned());
        labels.insert(label::FS_SIZE.to_owned(), "1048576".to_owned());
        labels.extend(
            plan.name
                .as_ref()
                .map(|name| (label::NAME.to_owned(), name.to_string())),
        );
        Record {
            id: plan.id.clone(),
            image: plan.image.to_string(),
            labels,
            runtime: String::new(),
            runtime_options: None,
            spec: Vec::new(),
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: None,
            extensions: extensions(plan, last)
                .unwrap()
                .into_iter()
                .chain(volume_use::extension(&plan.volumes).unwrap())
                .collect(),
        }
    }

    #[test]
    fn a_plan_comes_back_as_it_was_for_every_network() {
        let target = ContainerId::new("c2").unwrap();
        for network in [
            plan().network,
            Network::None,
            Network::Host,
            Network::Of(target),
            Network::Path("/run/netns/x".into()),
        ] {
            let plan = Plan { network, ..plan() };
            assert_eq!(plan_of(&record(&plan, &LastRun::Never)).unwrap(), plan);
        }
    }

    #[test]
    fn the_last_run_comes_back_as_it_was() {
        let at = UNIX_EPOCH + Duration::from_millis(1_764_000_000_123);
        let end = RunEnd {
            started_at: Some(at),
            ended_at: Some(at),
            code: Some(137),
            oom: Some(true),
        };
        for last in [LastRun::Never, LastRun::Started { at }, LastRun::Ended(end)] {
            assert_eq!(last_run(&record(&plan(), &last)), Some(last));
        }
    }

    #[test]
    fn the_reason_of_a_failed_start_comes_back_until_a_later_start_clears_it() {
        let mut record = record(&plan(), &LastRun::Never);
        assert!(set_start_error(&mut record, None).is_none());
        for reason in [Some("no such file".to_owned()), None] {
            let field = set_start_error(&mut record, reason.clone());
            assert!(matches!(field, Some(Field::Extension(START_ERROR))));
            assert_eq!(start_error(&record), reason);
        }
    }

    #[test]
    fn a_container_that_is_not_kept_has_no_plan_and_no_last_run() {
        let mut record = record(&plan(), &LastRun::Never);
        record.labels.remove(label::KEPT);
        assert_eq!(last_run(&record), None);
        let error = plan_of(&record).unwrap_err();
        assert_eq!(error.kind(), Kind::OutOfOrder);
        assert!(crate::chain(&error).contains("not made to be kept"), "{error}");
    }

    #[test]
    fn a_plan_of_another_version_is_refused_and_its_end_counts_as_lost() {
        let mut record = record(&plan(), &LastRun::Never);
        for name in [PLAN, LAST_RUN] {
            record
                .extensions
                .insert(name.to_owned(), b"{\"later\":1}".to_vec());
        }
        assert_eq!(last_run(&record), Some(LastRun::Ended(RunEnd::default())));
        let error = plan_of(&record).unwrap_err();
        assert!(
            crate::chain(&error).contains("another version of fnctr"),
            "{error}"
        );
    }
}
