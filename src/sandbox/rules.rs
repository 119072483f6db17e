//! Firewall rules that plugins leave behind when they find nothing to detach. The bridge plugin removes its
//! masquerading rules only together with the interface's addresses, so the rules stay for ever if another process has
//! removed the namespace or the interface.
//!
//! The rules contain the sandbox's name in a comment. No other sandbox ever has that name, so fnctr may remove every
//! rule that contains it.

use std::io;

use super::blocking::blocking;
use super::family::Family;
use super::{Error, iptables};
use crate::Context;

/// The tables in which plugins make rules with comments.
const TABLES: [&str; 2] = ["nat", "filter"];

/// Removes every IPv4 rule whose comment contains this name, and the chains that only such rules jump to. Succeeds on a
/// host without iptables.
///
/// # Cancellation
/// Safe to drop: each table is changed atomically.
pub(super) async fn remove(ctx: &Context, id: &str) -> Result<(), Error> {
    let id = id.to_owned();
    ctx.run(blocking(move || {
        for table in TABLES {
            match remove_from(table, &id) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => removed.map_err(|source| Error::Rules {
                    sandbox: id.clone(),
                    source,
                })?,
            }
        }
        Ok(())
    }))
    .await?
}

fn remove_from(table: &str, id: &str) -> io::Result<()> {
    let saved = iptables::saved(Family::V4, table)?;
    match undo(table, &saved, id) {
        Some(undo) => iptables::change(Family::V4, &undo),
        None => Ok(()),
    }
}

/// Returns the input for iptables-restore that removes the rules from `saved`, the output of iptables-save; `None` if
/// there are no such rules.
fn undo(table: &str, saved: &str, id: &str) -> Option<String> {
    // As the plugins write it: name: "NETWORK" id: "ID", with the quotes escaped.
    let marks = [format!("id: \\\"{id}\\\""), format!("id: \"{id}\"")];
    let is_marked =
        |rule: &&str| rule.starts_with("-A ") && marks.iter().any(|mark| rule.contains(mark.as_str()));
    let rules: Vec<_> = saved.lines().filter(is_marked).collect();
    if rules.is_empty() {
        return None;
    }
    let mut text = format!("*{table}\n");
    let chain = |rule: &str| rule.split(' ').nth(1).unwrap_or_default().to_owned();
    let target = |rule: &str| {
        let words: Vec<_> = rule.split(' ').collect();
        let at = words.iter().rposition(|word| *word == "-j")?;
        words.get(at + 1).map(|target| (*target).to_owned())
    };
    // Chains of this sandbox only: a marked rule jumps to them.
    let mut own: Vec<_> = rules
        .iter()
        .filter_map(|rule| target(rule))
        .filter(|target| saved.contains(&format!("\n:{target} ")))
        .collect();
    own.sort();
    own.dedup();
    for rule in rules.iter().filter(|rule| !own.contains(&chain(rule))) {
        text.push_str(&rule.replacen("-A ", "-D ", 1));
        text.push('\n');
    }
    for command in ["-F", "-X"] {
        for chain in &own {
            text.push_str(&format!("{command} {chain}\n"));
        }
    }
    text.push_str("COMMIT\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"# Generated
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-aa - [0:0]
:CNI-bb - [0:0]
-A POSTROUTING -s 10.0.0.2/32 -m comment --comment "name: \"net\" id: \"s-1\"" -j CNI-aa
-A POSTROUTING -s 10.0.0.3/32 -m comment --comment "name: \"net\" id: \"s-10\"" -j CNI-bb
-A CNI-aa -d 10.0.0.0/24 -m comment --comment "name: \"net\" id: \"s-1\"" -j ACCEPT
-A CNI-aa ! -d 224.0.0.0/4 -m comment --comment "name: \"net\" id: \"s-1\"" -j MASQUERADE
-A CNI-bb -d 10.0.0.0/24 -m comment --comment "name: \"net\" id: \"s-10\"" -j ACCEPT
COMMIT
"#;

    #[test]
    fn only_the_rules_and_chains_of_one_sandbox_go() {
        let expected = r#"*nat
-D POSTROUTING -s 10.0.0.2/32 -m comment --comment "name: \"net\" id: \"s-1\"" -j CNI-aa
-F CNI-aa
-X CNI-aa
COMMIT
"#;
        assert_eq!(undo("nat", SAVED, "s-1").as_deref(), Some(expected));
        assert!(undo("nat", SAVED, "s-10").unwrap().contains("-X CNI-bb"));
        assert_eq!(undo("nat", SAVED, "s"), None);
        assert_eq!(undo("nat", "", "s-1"), None);
    }
}
