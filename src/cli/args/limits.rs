//! The limits of `update`, and those of `run` and `create` that are Docker's and not the driver contract's.

use clap::Args;
use fnctr_oci::{Limit, Resources, ResourcesUpdate};

use super::values;
use crate::cli::container_ref::ContainerRef;
use crate::engine::RestartPolicy;
use crate::{ByteSize, MilliCpus};

/// Weights and sets, which share out what there is.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ShareArgs {
    /// Memory that the kernel leaves it as long as it can (64m, 1g)
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(in crate::cli) memory_reservation: Option<ByteSize>,
    /// Its part of the CPUs if others want them too, in proportion to theirs: 2 to 262144, and 1024 without a value
    #[arg(long, short, value_name = "SHARES")]
    pub(in crate::cli) cpu_shares: Option<u64>,
    /// The CPUs that it may use (0-2,4)
    #[arg(long, value_name = "LIST")]
    pub(in crate::cli) cpuset_cpus: Option<String>,
    /// The memory nodes that it may use (0,1)
    #[arg(long, value_name = "LIST")]
    pub(in crate::cli) cpuset_mems: Option<String>,
}

impl ShareArgs {
    /// Sets what is given.
    pub(in crate::cli) fn apply(&self, resources: &mut Resources) {
        resources.memory_reservation = self.memory_reservation.map(|size| size.0);
        resources.cpu_shares = self.cpu_shares;
        resources.cpuset_cpus.clone_from(&self.cpuset_cpus);
        resources.cpuset_mems.clone_from(&self.cpuset_mems);
    }
}

/// Limits to change, and the containers.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// Most memory, swap excluded (64m, 1g), or `unlimited`
    #[arg(long, short, value_name = "SIZE", value_parser = memory)]
    memory: Option<Limit>,
    /// Most CPUs (2, 0.5), or `unlimited`
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    cpus: Option<Limit>,
    /// Most processes and threads, or `unlimited`
    #[arg(long, value_name = "N", visible_alias = "pids-limit", value_parser = pids, allow_hyphen_values = true)]
    pids: Option<Limit>,
    #[command(flatten)]
    shares: ShareArgs,
    /// When `fnctr serve` starts it again: no, always, unless-stopped, on-failure or on-failure:N
    #[arg(long, value_name = "POLICY", value_parser = values::restart)]
    pub(in crate::cli) restart: Option<RestartPolicy>,
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
}

impl UpdateArgs {
    /// What is to change.
    pub(in crate::cli) fn limits(&self) -> ResourcesUpdate {
        let shares = self.shares.clone();
        ResourcesUpdate {
            memory: self.memory,
            memory_reservation: shares.memory_reservation.map(|size| size.0),
            milli_cpus: self.cpus,
            cpu_shares: shares.cpu_shares,
            cpuset_cpus: shares.cpuset_cpus,
            cpuset_mems: shares.cpuset_mems,
            pids: self.pids,
        }
    }
}

/// `-1` is docker's word.
fn limit(text: &str, value: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    match text {
        "unlimited" | "-1" => Ok(Limit::Unlimited),
        text => value(text).map(Limit::At),
    }
}

fn memory(text: &str) -> Result<Limit, String> {
    limit(text, |text| values::memory(text).map(|size| size.0))
}

fn cpus(text: &str) -> Result<Limit, String> {
    limit(text, |text| {
        let cpus: Result<MilliCpus, _> = text.parse();
        cpus.map(|cpus| cpus.0).map_err(|error| error.to_string())
    })
}

fn pids(text: &str) -> Result<Limit, String> {
    limit(text, |text| {
        text.parse()
            .map_err(|_| format!("{text:?} is neither a number nor `unlimited`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_value_or_none() {
        assert_eq!(memory("64m"), Ok(Limit::At(64 << 20)));
        assert_eq!(cpus("1.5"), Ok(Limit::At(1500)));
        assert_eq!(pids("7"), Ok(Limit::At(7)));
        for parse in [memory, cpus, pids] {
            assert_eq!(parse("unlimited"), Ok(Limit::Unlimited));
            assert_eq!(parse("-1"), Ok(Limit::Unlimited));
            assert!(parse("much").is_err());
        }
    }
}
