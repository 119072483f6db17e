//! `port`: shows which ports of the host lead to a container.

use std::process::ExitCode;

use super::Invocation;
use super::args::containers::PortArgs;
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use crate::{Context, PortMapping};

/// Shows the published ports of a container, or where one of its ports is published.
pub(super) async fn port(
    invocation: Invocation<'_>,
    args: &PortArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let id = args.container.id(engine).await?;
        let (container, _) = engine.inspect(&Context::new(), &id).await?;
        let sandboxes = engine.sandboxes().await;
        let own = sandboxes
            .iter()
            .find(|sandbox| container.sandbox() == Some(&sandbox.id));
        let ports = own.map_or(&[][..], |sandbox| &sandbox.ports);
        let wanted = args.port.as_deref().map(wanted).transpose();
        let wanted = wanted.map_err(Failure::usage)?;
        let shown: Vec<_> = ports
            .iter()
            .filter(|port| {
                wanted.is_none_or(|(number, protocol)| {
                    port.container_port == number && port.protocol.name() == protocol
                })
            })
            .collect();
        if let (Some(port), true) = (&args.port, shown.is_empty()) {
            return Err(Failure::usage(format!(
                "no port of this host leads to port {port} of container {id}"
            )));
        }
        for port in shown {
            let (inside, outside) = (inside(port), outside(port));
            let value = serde_json::json!({ "id": id.as_str(), "port": inside, "host": outside });
            print.result(&value, || match wanted {
                Some(_) => outside.clone(),
                None => format!("{inside} -> {outside}"),
            });
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// `80`, `80/tcp` or `53/udp`.
fn wanted(text: &str) -> Result<(u16, &str), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match (number.parse(), protocol) {
        (Ok(number), "tcp" | "udp") => Ok((number, protocol)),
        _ => Err(format!("{text:?} is not a port, such as 80 or 53/udp")),
    }
}

fn inside(port: &PortMapping) -> String {
    format!("{}/{}", port.container_port, port.protocol.name())
}

fn outside(port: &PortMapping) -> String {
    match port.host_ip {
        None => format!("0.0.0.0:{}", port.host_port),
        Some(ip) => std::net::SocketAddr::new(ip, port.host_port).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_with_a_protocol_or_without() {
        assert_eq!(wanted("80"), Ok((80, "tcp")));
        assert_eq!(wanted("53/udp"), Ok((53, "udp")));
        for bad in ["", "x", "80/icmp", "70000"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
        let port: PortMapping = "[::1]:8080:80".parse().unwrap();
        assert_eq!(
            (inside(&port), outside(&port)),
            ("80/tcp".to_owned(), "[::1]:8080".to_owned())
        );
    }
}
