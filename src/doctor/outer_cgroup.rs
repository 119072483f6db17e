//! Whether this process is in a container with its own cgroups, and whether containers can be limited in there.

use super::Check;
use crate::embedded::OuterCgroup;

/// The controllers without which a function's limits cannot be enforced.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Returns `None` on the host itself, for which there is nothing to report. `private` is whether fnctr starts its own
/// containerd.
pub(super) fn check(nested: bool, unified: Option<&OuterCgroup>, private: bool) -> Option<Check> {
    const NAME: &str = "nested";
    if !nested {
        return None;
    }
    let Some(outer) = unified else {
        return Some(Check::ok(
            NAME,
            "a container with v1 cgroups of its own, in which functions can be limited",
        ));
    };
    let closed = outer.closed();
    let closed: Vec<_> = NEEDED
        .into_iter()
        .filter(|name| closed.iter().any(|c| c == name))
        .collect();
    Some(if closed.is_empty() {
        Check::ok(
            NAME,
            "a container with cgroups of its own, in which functions can be limited",
        )
    } else if private {
        let found = format!(
            "a container with cgroups of its own; fnctr moves its processes to {} to limit functions",
            outer.leaf().display()
        );
        Check::ok(NAME, found)
    } else {
        let found = format!(
            "processes of this container keep the controllers {} from functions, so functions cannot be limited",
            closed.join(", ")
        );
        Check::warn(NAME, found, outer.command())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_has_no_line_and_v1_needs_nothing() {
        assert_eq!(check(false, None, true), None);
        assert!(check(true, None, false).unwrap().found.contains("v1"));
    }
}
