//! A container as one line of `ps`.

use std::time::SystemTime;

use serde::Serialize;

use super::state_of;
use crate::cli::output::plain;
use crate::cli::template::Fields;
use crate::driver::Timestamp;
use crate::engine::{ListedContainer, Reference, State};
use crate::sandbox::Listed;
use crate::{ContainerId, PortMapping, Protocol, clock};

/// The number of characters of a command that are shown.
const SHORT: usize = 40;

/// The column that is there if a container has a name beside its id.
pub(super) const NAME: &str = "NAME";

/// The column headings of the table.
pub(super) const COLUMNS: [&str; 9] = [
    "ID", NAME, "IMAGE", "COMMAND", "STATE", "PID", "ADDRESS", "PORTS", "CREATED",
];

/// The columns that are left out on a narrow terminal, in the order in which they are left out.
pub(super) const MAY_GO: [&str; 5] = ["PID", "ADDRESS", "CREATED", "PORTS", "COMMAND"];

/// The fields of a template, by docker's names, and their column headings.
pub(super) const FIELDS: [(&str, &str); 13] = [
    ("ID", "ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Labels", "LABELS"),
    ("Networks", "NETWORKS"),
    ("Addresses", "ADDRESS"),
    ("Pid", "PID"),
];

/// A container in `ps` and `inspect`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    /// What people call it, which is its id if it has no name beside that.
    pub(super) name: String,
    pub(super) image: String,
    command: String,
    pub(super) state: &'static str,
    /// The `fnctr run` that waited for this container was killed.
    orphaned: bool,
    exit_code: Option<u32>,
    pid: Option<u32>,
    created: Option<Timestamp>,
    pub(super) network: Option<String>,
    addresses: Vec<String>,
    ports: Vec<PortMapping>,
}

/// Formats a published port as docker does: the address on the host, then the port in the container.
fn shown(port: &PortMapping) -> String {
    let ip = match port.host_ip {
        Some(ip) if ip.is_ipv6() => format!("[{ip}]:"),
        Some(ip) => format!("{ip}:"),
        None => String::new(),
    };
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{ip}{}->{}/{protocol}", port.host_port, port.container_port)
}

impl Row {
    pub(super) fn of(container: &ListedContainer, sandboxes: &[Listed]) -> Self {
        let sandbox = container
            .sandbox()
            .and_then(|id| sandboxes.iter().find(|listed| listed.id == id));
        let addresses = sandbox.map_or(&[][..], |listed| &listed.addresses).iter();
        let ports = sandbox.map_or(&[][..], |listed| &listed.ports).iter();
        let exit_code = match container.state {
            State::Exited(code) => Some(code),
            _ => None,
        };
        Self {
            id: container.id.to_string(),
            name: container.name.clone().unwrap_or_else(|| container.id.to_string()),
            image: container.image.clone(),
            command: container.command.clone(),
            state: state_of(container),
            orphaned: container.is_orphaned(),
            exit_code,
            pid: container.pid,
            created: container.created_at.map(Into::into),
            network: sandbox.and_then(|listed| listed.network.clone()),
            addresses: addresses.map(|address| address.ip.to_string()).collect(),
            ports: ports.copied().collect(),
        }
    }

    /// The cells of the table, in the order of [`COLUMNS`].
    pub(super) fn cells(&self, container: &ListedContainer, whole: bool) -> Vec<String> {
        let name = if self.name == self.id { "" } else { &self.name };
        vec![
            self.shown_id(whole),
            name.to_owned(),
            self.shown_image(whole),
            self.shown_command(whole),
            self.status(),
            self.shown_pid(),
            self.addresses.join(" "),
            self.shown_ports(),
            age(container.created_at),
        ]
    }

    /// The values of the fields for a template.
    pub(super) fn fields(&self, container: &ListedContainer, whole: bool) -> Fields {
        let labels = container.labels.iter();
        let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        let created = self.created.as_ref().map(ToString::to_string);
        let value = |name| match name {
            "ID" => self.shown_id(whole),
            "Names" => self.name.clone(),
            "Image" => self.image.clone(),
            "Command" => self.shown_command(whole),
            "CreatedAt" => created.clone().unwrap_or_default(),
            "RunningFor" => age(container.created_at),
            "State" => self.state.to_owned(),
            "Status" => self.status(),
            "Ports" => self.shown_ports(),
            "Labels" => labels.join(","),
            "Networks" => self.network.clone().unwrap_or_default(),
            "Addresses" => self.addresses.join(" "),
            _ => self.shown_pid(),
        };
        Fields {
            values: FIELDS.into_iter().map(|(name, _)| (name, value(name))).collect(),
            labels: container.labels.clone(),
        }
    }

    fn status(&self) -> String {
        let mut status = match self.exit_code {
            Some(code) => format!("exited ({code})"),
            None => self.state.to_owned(),
        };
        if self.orphaned {
            status.push_str(", orphaned");
        }
        status
    }

    /// The id, of which twelve characters are enough if it was made up.
    fn shown_id(&self, whole: bool) -> String {
        let is_made_up = ContainerId::new(&self.id).is_ok_and(|id| id.is_random());
        let most = if is_made_up && !whole { 12 } else { usize::MAX };
        self.id.chars().take(most).collect()
    }

    /// The image's short name, or its full name if `whole`.
    fn shown_image(&self, whole: bool) -> String {
        let reference = Reference::parse(&self.image).ok().filter(|_| !whole);
        reference.map_or_else(|| self.image.clone(), |reference| reference.familiar())
    }

    fn shown_command(&self, whole: bool) -> String {
        let most = if whole { usize::MAX } else { SHORT };
        plain(&self.command).chars().take(most).collect()
    }

    fn shown_pid(&self) -> String {
        self.pid.map(|pid| pid.to_string()).unwrap_or_default()
    }

    fn shown_ports(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(shown).collect();
        ports.join(", ")
    }
}

fn age(created: Option<SystemTime>) -> String {
    let Some(age) = created.and_then(clock::age) else {
        return String::new();
    };
    match age.as_secs() {
        s @ 0..=119 => format!("{s} s ago"),
        s @ 120..=7199 => format!("{} min ago", s / 60),
        s @ 7200..=172_799 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shown_as_docker_shows_it() {
        for (typed, said) in [
            ("80:8080/udp", "80->8080/udp"),
            ("10.0.0.1:80:8080", "10.0.0.1:80->8080/tcp"),
            ("[::1]:80:8080", "[::1]:80->8080/tcp"),
        ] {
            let port: PortMapping = typed.parse().unwrap();
            assert_eq!(shown(&port), said);
        }
    }
}
