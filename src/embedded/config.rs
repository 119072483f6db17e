//! The configuration file of a private containerd, in version 2 of the format, which containerd 1.6, 1.7 and 2.x read.

use std::fmt::Write as _;

use super::Home;

/// The plugins that a private containerd does not need, under every name that they have in a supported version:
/// containerd ignores unknown names in this list. CRI serves Kubernetes; the others would share files with another
/// containerd of the host (`/opt/containerd`, `/run/nri`) or restart containers, which is decided by this project.
const DISABLED: [&str; 9] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.image-verifier.v1.bindir",
    "io.containerd.nri.v1.nri",
];

/// The text of the file. It has no listener for debugging or metrics, and it makes the kernel's out-of-memory killer
/// choose almost any other process before containerd.
pub(super) fn text(home: &Home) -> String {
    let mut out = String::from("version = 2\noom_score = -999\n");
    let disabled: Vec<_> = DISABLED.iter().map(|name| quote(name)).collect();
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key} = {value}");
    };
    line("root", &quote(&home.root().to_string_lossy()));
    line("state", &quote(&home.state().to_string_lossy()));
    line("disabled_plugins", &format!("[{}]", disabled.join(", ")));
    line("\n[grpc]\naddress", &quote(&home.socket().to_string_lossy()));
    line(
        "\n[ttrpc]\naddress",
        &quote(&home.ttrpc_socket().to_string_lossy()),
    );
    out
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_path_of_the_configuration_is_private() {
        let text = text(&Home::under(Path::new("/srv/f")));
        assert!(text.starts_with("version = 2\n"), "{text}");
        for line in [
            "root = \"/srv/f/root\"",
            "state = \"/srv/f/state\"",
            "[grpc]\naddress = \"/srv/f/containerd.sock\"",
            "[ttrpc]\naddress = \"/srv/f/containerd.sock.ttrpc\"",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("/run/containerd"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_string() {
        assert_eq!(quote("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
