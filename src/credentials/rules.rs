//! Selects the entries of a configuration that apply to a registry, best first. Pure.
//!
//! 1. The entry of the registry's host, including its port.
//! 2. The entries of its parent domains, the most specific first: an entry of `corp.io` applies to `team.corp.io`.
//! 3. The entries of its subdomains, the nearest first: an entry of `team.corp.io` applies to `corp.io`. This is the
//!    rule of Fn's own driver, which takes any matching entry.
//!
//! A parent domain has at least two labels, and an IP address has no parent. Docker Hub has several names, and only
//! these match it.

/// The key under which the docker command stores the entry of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: [&str; 4] = [
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
    "hub.docker.com",
];

/// The host of a key that may be a URL: for `https://index.docker.io/v1/` it is `index.docker.io`.
pub(super) fn host_of(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    host.to_ascii_lowercase()
}

/// Whether a key applies to a host as a whole.
pub(super) fn is_of_host(key: &str) -> bool {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2")
}

/// The name under which a credential store has a host.
pub(super) fn store_key(host: &str) -> &str {
    if is_hub(host) { HUB_KEY } else { host }
}

/// The keys that apply to `registry`, best first.
pub(super) fn ranked<'a>(registry: &str, keys: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let registry = registry.to_ascii_lowercase();
    let mut found: Vec<((u8, usize), &str)> = keys
        .filter_map(|key| Some((rank(&registry, key)?, key)))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, key)| key).collect()
}

/// The rank of a key for a registry; a lower rank is better.
fn rank(registry: &str, key: &str) -> Option<(u8, usize)> {
    if is_hub(registry) || is_hub(key) {
        let at = HUB.iter().position(|name| *name == key)?;
        return is_hub(registry).then_some((0, at));
    }
    if key == registry {
        return Some((0, 0));
    }
    let labels = |host: &str| host.split('.').count();
    if is_parent(key, registry) {
        return Some((1, usize::MAX - labels(key)));
    }
    is_parent(registry, key).then(|| (2, labels(key)))
}

fn is_hub(host: &str) -> bool {
    HUB.contains(&host)
}

/// `corp.io:5000` is a parent of `team.corp.io:5000`: the port belongs to the last label.
fn is_parent(parent: &str, child: &str) -> bool {
    let ends = child
        .strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1);
    ends && parent.contains('.') && !is_address(child)
}

fn is_address(host: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    host.starts_with('[') || bare.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(registry: &str, keys: &[&'static str]) -> Vec<&'static str> {
        ranked(registry, keys.iter().copied())
    }

    #[test]
    fn the_host_comes_first_then_its_parents_then_what_is_below_it() {
        let all = [
            "x.a.corp.io",
            "io",
            "corp.io",
            "a.corp.io",
            "b.a.corp.io",
            "other.io",
            "y.b.a.corp.io",
        ];
        assert_eq!(
            keys("a.corp.io", &all),
            [
                "a.corp.io",
                "corp.io",
                "b.a.corp.io",
                "x.a.corp.io",
                "y.b.a.corp.io"
            ]
        );
        assert_eq!(
            keys("deep.b.a.corp.io", &all),
            ["b.a.corp.io", "a.corp.io", "corp.io"]
        );
    }

    #[test]
    fn what_only_looks_alike_gets_nothing() {
        for (registry, key) in [
            ("evilcorp.io", "corp.io"),
            ("corp.io.evil.net", "corp.io"),
            ("corp.io:5000", "corp.io"),
            ("a.corp.io", "corp.io:5000"),
            ("10.0.0.1", "0.0.1"),
            ("10.0.0.1:5000", "0.1:5000"),
            ("[::1]:5000", "1]:5000"),
            ("a.io", "io"),
            ("evil.docker.io", "docker.io"),
            ("docker.io", "evil.docker.io"),
            ("index.docker.io.evil.net", "index.docker.io"),
        ] {
            assert_eq!(
                ranked(registry, [key].into_iter()),
                Vec::<&str>::new(),
                "{registry} {key}"
            );
        }
    }

    #[test]
    fn docker_hub_is_known_by_all_its_names() {
        assert_eq!(host_of(HUB_KEY), "index.docker.io");
        assert_eq!(
            keys(
                "docker.io",
                &["hub.docker.com", "docker.io", "index.docker.io", "quay.io"]
            ),
            ["index.docker.io", "docker.io", "hub.docker.com"]
        );
        assert_eq!(
            keys("registry-1.docker.io", &["index.docker.io"]),
            ["index.docker.io"]
        );
        assert_eq!(store_key("docker.io"), HUB_KEY);
        assert_eq!(store_key("quay.io"), "quay.io");
    }
}
