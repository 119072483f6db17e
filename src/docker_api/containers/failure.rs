//! Why a container was not started, in Docker's words and exit codes. The record has the engine's words.

/// The exit code of a container whose start failed, if its program was not found.
const NOT_FOUND: u32 = 127;
/// The same, if its program cannot be executed.
const NOT_EXECUTABLE: u32 = 126;
/// The same, for any other reason.
const NOT_STARTED: u32 = 128;

const TASK: &str = "failed to create task for container: ";
const LOG: &str = "failed to initialize logging driver";

/// The exit code that Docker gives a container whose start failed; `None` without a failure.
pub(super) fn code(error: &str) -> Option<u32> {
    let says = |text: &str| error.contains(text);
    match error {
        "" => None,
        _ if says("no such file or directory") || says("not found in") || says("there is no program") => {
            Some(NOT_FOUND)
        }
        _ if says("permission denied") || says("cannot be executed") => Some(NOT_EXECUTABLE),
        _ => Some(NOT_STARTED),
    }
}

/// The same for a start that is known to have failed.
pub(in crate::docker_api) fn failed_start_code(error: &str) -> u32 {
    code(error).unwrap_or(NOT_STARTED)
}

/// The text of a failed start as Docker would have written it, where Docker has words for it.
pub(super) fn words(error: &str) -> String {
    if let Some(at) = error.find(LOG) {
        return format!("{TASK}{}", error.get(at..).unwrap_or_default());
    }
    if let Some((_, refused)) = error.split_once("containerd refused Tasks/Create for ")
        && let Some((_, why)) = refused.split_once(": ")
    {
        return format!("{TASK}{}", why.strip_suffix(": unknown").unwrap_or(why));
    }
    if let Some((_, target)) = error.split_once("cannot share the network of container ")
        && let Some((id, why)) = target.split_once(": ")
    {
        return match why {
            "there is no such container" => {
                format!("joining network namespace of container: No such container: {id}")
            }
            _ => format!("cannot join network of a non running container: {id}"),
        };
    }
    if let Some((_, network)) = error.split_once("there is no network \"")
        && let Some((name, _)) = network.split_once('"')
    {
        return format!("failed to set up container networking: network {name} not found");
    }
    error.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_look_for_is_said_in_docker_s_words() {
        for (ours, theirs) in [
            (
                "cannot create the process of ab: containerd refused Tasks/Create for ab: failed to create shim task: OCI \
                 runtime create failed: exec: \"/x\": stat /x: no such file or directory: unknown",
                "failed to create task for container: failed to create shim task: OCI runtime create failed: exec: \"/x\": \
                 stat /x: no such file or directory",
            ),
            (
                "cannot open the streams of ab: failed to initialize logging driver: cannot connect: refused",
                "failed to create task for container: failed to initialize logging driver: cannot connect: refused",
            ),
            (
                "cannot give a network to ab: cannot share the network of container x: there is no such container",
                "joining network namespace of container: No such container: x",
            ),
            (
                "cannot give a network to ab: cannot share the network of container x: it is not running",
                "cannot join network of a non running container: x",
            ),
            (
                "cannot give a network to ab: there is no network \"n\"; there are a and b",
                "failed to set up container networking: network n not found",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(words(ours), theirs);
        }
    }

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        assert_eq!(code(""), None);
        assert_eq!(code("exec: stat /x: no such file or directory"), Some(127));
        assert_eq!(code("exec /etc/passwd: permission denied"), Some(126));
        assert_eq!(code("failed to initialize logging driver"), Some(128));
    }
}
