//! Labels that this project puts on every container record, beside those of the plan.

/// What the names of all labels begin with that only the engine may give.
pub(crate) const OWN: &str = "io.fnctr.";
/// Present on every record that the engine made; the value is this crate's version.
pub(crate) const ENGINE: &str = "io.fnctr.engine";
/// Distinguishes two attempts to create the same id, so that an undo never removes another attempt's record.
pub(crate) const ATTEMPT: &str = "io.fnctr.attempt";
/// On the record of a container with a network namespace that goes when it goes: its name. Whoever takes the container over
/// knows by it what to give back.
pub(crate) const SANDBOX: &str = "io.fnctr.sandbox";
/// On the record of a container that lives in a prepared network namespace, for whoever expects a process there: which one.
pub(crate) const HOLDER: &str = "io.fnctr.holder-of";
/// On the record of a container whose writable layer is limited: to how many bytes. Whoever takes it over knows by it
/// that there is a limit to take away.
pub(crate) const FS_SIZE: &str = "io.fnctr.fs-size";
/// The command as a person would type it. With the next two, what lists need of the spec; see `facts`.
pub(crate) const COMMAND: &str = "io.fnctr.command";
/// Where the cgroup is, in the words of the spec.
pub(crate) const CGROUP: &str = "io.fnctr.cgroup";
/// The limit of memory, in bytes.
pub(crate) const MEMORY: &str = "io.fnctr.memory";
/// The process that looks after the container: its id, its start, its pid namespace and the boot. See `custody`.
pub(crate) const OWNER: &str = "io.fnctr.owner";
/// Present if that process leaves the container running when it ends.
pub(crate) const DETACHED: &str = "io.fnctr.detached";
/// Until when the container may run if its owner cannot see to that: milliseconds since 1970 by the host's clock.
pub(crate) const DEADLINE: &str = "io.fnctr.deadline";
