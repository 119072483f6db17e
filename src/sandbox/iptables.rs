//! Runs iptables-save, iptables-restore and their IPv6 variants, to read and change the tables of the firewall.
//!
//! The programs are looked up on the path on which plugins find iptables. A host has two kinds of tables, the ones of
//! nf_tables and the legacy ones, and a packet passes both. The program `iptables` changes only one kind, which its
//! version names.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use super::family::Family;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program and returns its output.
pub(super) fn said(program: &str, args: &[&str]) -> io::Result<String> {
    let output = run(program, args, "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the content of a table, as iptables-save prints it. Blocks for some milliseconds.
pub(super) fn saved(family: Family, table: &str) -> io::Result<String> {
    let program = match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    };
    said(program, &["-t", table])
}

/// Applies all of these changes, or none. Blocks for some milliseconds, and for up to 10 seconds while another process
/// holds the lock.
pub(super) fn change(family: Family, commands: &str) -> io::Result<()> {
    let program = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    run(program, &["--noflush", "-w", "10"], commands).map(drop)
}

fn run(program: &str, args: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input fails for its own reasons, and reports them.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.split_whitespace().collect();
    Err(io::Error::other(format!("{program}: {}", said.join(" "))))
}

/// Returns the policy of a built-in chain; `None` if the table does not exist, in which case it lets every packet
/// through.
pub(super) fn policy<'a>(saved: &'a str, chain: &str) -> Option<&'a str> {
    let declared = saved.lines().filter_map(|line| line.strip_prefix(':'));
    let mut words = declared.map(|line| line.split(' '));
    words.find_map(|mut words| (words.next() == Some(chain)).then(|| words.next()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_a_chain_is_read_where_there_is_one() {
        let saved =
            "# Generated\n*filter\n:INPUT ACCEPT [1:2]\n:FORWARD DROP [0:0]\n:FORWARD2 - [0:0]\nCOMMIT\n";
        assert_eq!(policy(saved, "FORWARD"), Some("DROP"));
        assert_eq!(policy(saved, "INPUT"), Some("ACCEPT"));
        assert_eq!(policy(saved, "OUTPUT"), None);
        assert_eq!(policy("", "FORWARD"), None);
    }

    #[test]
    fn a_missing_program_and_a_failing_one_are_distinguished() {
        let missing = run("no-such-program-of-fnctr", &[], "").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let failed = run("sh", &["-c", "cat >&2; exit 3"], "its\nwords\n").unwrap_err();
        assert_eq!(failed.to_string(), "sh: its words");
    }
}
