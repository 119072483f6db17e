//! Labels that the engine puts on container records, in addition to those of the plan.

/// The prefix of all label names that only the engine may set.
pub(crate) const OWN: &str = "io.fnctr.";
/// Present on every record that the engine made; the value is this crate's version.
pub(crate) const ENGINE: &str = "io.fnctr.engine";
/// Distinguishes two attempts to create the same id, so that an undo never removes another attempt's record.
pub(crate) const ATTEMPT: &str = "io.fnctr.attempt";
/// The container's name, if it has one beside its id; see `names`.
pub(crate) const NAME: &str = "io.fnctr.name";
/// The name of the sandbox (network namespace) that is removed with the container. A process that adopts the container
/// gives it back.
pub(crate) const SANDBOX: &str = "io.fnctr.sandbox";
/// The name of the prepared network namespace that the container lives in, because the platform expects a process
/// there.
pub(crate) const HOLDER: &str = "io.fnctr.holder-of";
/// The limit of the writable layer, in bytes. A process that adopts the container removes the limit if it has this
/// label.
pub(crate) const FS_SIZE: &str = "io.fnctr.fs-size";
/// The current file of its log, if its output is kept; see `logs`.
pub(crate) const LOG: &str = "io.fnctr.log";
/// Present if the container uses volumes; see `volume_use`. A filter finds these among thousands.
pub(crate) const VOLUMES: &str = "io.fnctr.volumes";
/// Not on records, but on events: what is known of a container's health since then.
pub(crate) const HEALTH: &str = "io.fnctr.health";
/// The command as a person would type it. This and the next two are the facts of the spec that lists need; see `facts`.
pub(crate) const COMMAND: &str = "io.fnctr.command";
/// The `cgroupsPath` of the spec.
pub(crate) const CGROUP: &str = "io.fnctr.cgroup";
/// The memory limit, in bytes.
pub(crate) const MEMORY: &str = "io.fnctr.memory";
/// The process that looks after the container: its id, its start, its pid namespace and the boot. See `custody`.
pub(crate) const OWNER: &str = "io.fnctr.owner";
/// Present if the owner leaves the container running when it ends.
pub(crate) const DETACHED: &str = "io.fnctr.detached";
/// Until when the container may run, for other processes if its owner is gone: `boot+` and milliseconds since the boot.
pub(crate) const DEADLINE: &str = "io.fnctr.deadline";
/// Present if the container is kept after its end; see `kept`. The value states whether it has a run.
pub(crate) const KEPT: &str = "io.fnctr.kept";
/// The value of [`KEPT`] from before a run is made until its end is written. A filter finds these among thousands that
/// have ended.
pub(crate) const KEPT_WITH_RUN: &str = "with-run";
/// The value of [`KEPT`] of a container without a run.
pub(crate) const KEPT_WITHOUT_RUN: &str = "without-run";
