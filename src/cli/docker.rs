//! Commands and options that docker has and fnctr lacks. Each is refused by name, with the alternative in fnctr.

/// Commands of docker that fnctr lacks, and the advice for each.
const COMMANDS: [(&str, &str); 28] = [
    ("build", IMAGES),
    ("builder", IMAGES),
    ("buildx", IMAGES),
    ("checkpoint", NOTHING),
    ("commit", IMAGES),
    ("compose", NOTHING),
    ("config", NOTHING),
    ("context", "--address and --embedded choose the containerd"),
    ("df", "`fnctr images` shows how much room images take"),
    ("diff", NOTHING),
    (
        "export",
        "`fnctr cp CONTAINER:/ -` writes its files as an archive",
    ),
    ("history", "`fnctr image inspect` shows the layers of an image"),
    ("import", IMAGES),
    ("info", "`fnctr doctor` shows what this host can do"),
    ("login", LOGIN),
    ("logout", LOGIN),
    ("manifest", IMAGES),
    ("node", NOTHING),
    ("plugin", NOTHING),
    ("push", IMAGES),
    ("search", "registries are not searched"),
    ("secret", NOTHING),
    ("service", NOTHING),
    ("stack", NOTHING),
    ("swarm", NOTHING),
    (
        "system",
        "`fnctr container prune` and `fnctr image prune` remove what is not used",
    ),
    ("trust", NOTHING),
    ("version", "`fnctr --version` shows it"),
];

const NOTHING: &str = "fnctr has nothing like it";
const IMAGES: &str = "images are made elsewhere, and come here by `fnctr pull` or `fnctr load`";
const LOGIN: &str = "log in with docker, podman or skopeo: fnctr reads docker's configuration file; or use `fnctr pull --username`";

/// Options of `docker run` that `fnctr run` lacks, and the advice for each.
const OPTIONS: [(&str, &str); 50] = [
    ("--annotation", NOTHING),
    (
        "--attach",
        "the function's output is streamed anyway, and -i gives it standard input",
    ),
    (
        "-a",
        "the function's output is streamed anyway, and -i gives it standard input",
    ),
    ("--blkio-weight", NOTHING),
    ("--cap-add", CAPABILITIES),
    ("--cap-drop", CAPABILITIES),
    ("--cgroupns", NOTHING),
    ("--cpu-period", CPUS),
    ("--cpu-quota", CPUS),
    ("--detach-keys", NOTHING),
    ("--device", DEVICES),
    ("--device-cgroup-rule", DEVICES),
    ("--dns", RESOLVER),
    ("--dns-option", RESOLVER),
    ("--dns-search", RESOLVER),
    ("--domainname", "--hostname may have dots"),
    ("--expose", "--publish opens a port"),
    ("--gpus", DEVICES),
    ("--group-add", "--user USER:GROUP gives it one group"),
    ("--health-cmd", HEALTH),
    ("--health-interval", HEALTH),
    ("--health-retries", HEALTH),
    ("--health-timeout", HEALTH),
    ("--health-start-period", HEALTH),
    ("--no-healthcheck", HEALTH),
    ("--ip", ADDRESS),
    ("--ip6", ADDRESS),
    ("--ipc", NOTHING),
    ("--isolation", NOTHING),
    ("--link", "--add-host NAME:IP gives an address a name"),
    ("--mac-address", ADDRESS),
    ("--memory-swap", "--memory is the one limit"),
    ("--memory-swappiness", NOTHING),
    (
        "--mount",
        "write --volume SOURCE:DEST[:ro] or --tmpfs PATH[:OPTIONS]",
    ),
    ("--network-alias", "--add-host NAME:IP gives an address a name"),
    ("--oom-kill-disable", NOTHING),
    ("--oom-score-adj", NOTHING),
    ("--pid", NOTHING),
    ("--platform", "pull it first, with `fnctr pull --platform`"),
    ("--privileged", CAPABILITIES),
    ("--publish-all", "name each port: --publish PORT:PORT"),
    ("-P", "name each port: --publish PORT:PORT"),
    ("--security-opt", NOTHING),
    (
        "--shm-size",
        "--tmpfs PATH:size=SIZE mounts one of any size elsewhere",
    ),
    ("--sig-proxy", "signals are passed on anyway"),
    (
        "--stop-signal",
        "SIGTERM is sent first, and SIGKILL after --stop-timeout",
    ),
    ("--storage-opt", "--fs-size limits the writable layer"),
    ("--sysctl", NOTHING),
    ("--userns", NOTHING),
    (
        "--volumes-from",
        "--volume mounts one volume, or directory of this host, into several containers",
    ),
];

const CAPABILITIES: &str =
    "a function has no capabilities, and with --image-user Docker's 14 default ones; it cannot have more";
const CPUS: &str = "--cpus limits how many CPUs it may use";
const DEVICES: &str = "a function has no devices of the host";
const RESOLVER: &str = "the host's resolvers are used";
const HEALTH: &str = "the health of functions is not checked";
const ADDRESS: &str = "the network gives it an address";

/// The message about a command of docker that fnctr lacks; `None` for any other word.
pub(super) fn command(word: &str) -> Option<String> {
    let (_, text) = COMMANDS.iter().find(|(name, _)| *name == word)?;
    Some(format!("there is no `fnctr {word}`: {text}"))
}

/// The message about an option of `docker run` that `fnctr run` lacks; `None` for any other option.
pub(super) fn option(word: &str) -> Option<String> {
    let (_, text) = OPTIONS.iter().find(|(name, _)| *name == word)?;
    Some(format!("`fnctr run` has no {word}: {text}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn no_command_or_option_that_is_refused_exists() {
        let cli = Cli::command();
        let names: Vec<_> = cli
            .get_subcommands()
            .flat_map(clap::Command::get_name_and_visible_aliases)
            .collect();
        for (name, _) in COMMANDS {
            assert!(!names.contains(&name), "{name}");
        }
        let run = cli.find_subcommand("run").unwrap();
        let mut options = Vec::new();
        for arg in run.get_arguments() {
            options.extend(
                arg.get_long_and_visible_aliases()
                    .into_iter()
                    .flatten()
                    .map(|name| format!("--{name}")),
            );
            options.extend(arg.get_short().map(|name| format!("-{name}")));
        }
        for (name, _) in OPTIONS {
            assert!(!options.iter().any(|option| option == name), "{name}");
        }
        assert!(command("push").unwrap().contains("fnctr pull") && command("lgos").is_none());
        assert!(option("--privileged").unwrap().contains("--image-user") && option("--prvileged").is_none());
    }
}
