//! The hosts that serve a registry: those in the registry's directory, or else the registry itself.
//!
//! The directory is found as containerd finds it: `HOST_PORT_`, `HOST:PORT`, `_default`. It contains a `hosts.toml`, or
//! else certificates by Docker's older convention (`*.crt` to trust, `*.cert` with `*.key` to present).

use std::io;
use std::path::{Path, PathBuf};

use super::hosts_toml::{self, Described, Place};
use super::origin::is_loopback;
use super::{Error, RegistrySettings};

/// The host of Docker Hub's registry.
const HUB: &str = "registry-1.docker.io";
/// The largest `hosts.toml` that is read; real ones are smaller.
const MAX_FILE: u64 = 1 << 20;

/// A host to ask, with its address.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) place: Place,
    pub(super) described: Described,
    /// Whether it is the registry itself, not a mirror: the credentials of a request are only for the registry.
    pub(super) is_registry: bool,
    /// Whether it is the last host, for which the others are mirrors: its error is more important than theirs.
    pub(super) is_final: bool,
    /// The registry that must be named to a mirror which serves several registries (containerd's `ns` parameter).
    pub(super) of: Option<String>,
}

/// The hosts of a registry in the order in which they are asked.
///
/// # Errors
/// A file that exists but cannot be used; the error names it.
pub(super) fn of(registry: &str, settings: &RegistrySettings) -> Result<Vec<Host>, Error> {
    let described = match directory(registry, &settings.hosts_dir) {
        Some(directory) => load(registry, &directory)?,
        None => vec![Described::plain()],
    };
    let last = described.len().saturating_sub(1);
    let hosts = described.into_iter().enumerate().map(|(at, described)| {
        let place = described
            .at
            .clone()
            .unwrap_or_else(|| itself(registry, settings, &described));
        let named = place.authority.eq_ignore_ascii_case(registry)
            || (registry == "docker.io" && place.authority.eq_ignore_ascii_case(HUB));
        Host {
            of: (!named).then(|| registry.to_owned()),
            is_registry: named,
            is_final: at == last,
            place,
            described,
        }
    });
    Ok(hosts.collect())
}

/// The registry itself. This machine, and registries that are configured so, are accessed without TLS.
fn itself(registry: &str, settings: &RegistrySettings, described: &Described) -> Place {
    let authority = if registry == "docker.io" { HUB } else { registry };
    let tls_wanted = described.skip_verify || !described.ca.is_empty() || !described.client.is_empty();
    let named = |plain: &String| plain.eq_ignore_ascii_case(registry);
    let plain = is_loopback(authority) || settings.plain_http.iter().any(named);
    Place {
        tls: tls_wanted || !plain || authority.ends_with(":443"),
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
    }
}

fn directory(registry: &str, root: &Path) -> Option<PathBuf> {
    let ported = registry
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = ported
        .into_iter()
        .chain([registry.to_owned(), "_default".to_owned()]);
    names.map(|name| root.join(name)).find(|path| path.is_dir())
}

fn load(registry: &str, directory: &Path) -> Result<Vec<Described>, Error> {
    let file = directory.join("hosts.toml");
    let unreadable = |path: &Path| {
        let (host, path) = (registry.to_owned(), path.to_owned());
        move |source| Error::Unreadable { host, path, source }
    };
    let text = match read(&file) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(unreadable(&file)(why)),
    };
    if text.is_empty() {
        return certificates(directory)
            .map(|plain| vec![plain])
            .map_err(unreadable(directory));
    }
    hosts_toml::parse(&text, directory).map_err(|why| Error::Described {
        host: registry.to_owned(),
        path: file,
        why,
    })
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let opened = std::fs::File::open(file)?;
    opened.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads certificates by Docker's older convention.
fn certificates(directory: &Path) -> io::Result<Described> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let with = |extension: &'static str| {
        files
            .iter()
            .filter(move |file| file.extension().is_some_and(|found| found == extension))
    };
    Ok(Described {
        ca: with("crt").cloned().collect(),
        client: with("cert")
            .map(|file| (file.clone(), Some(file.with_extension("key"))))
            .collect(),
        ..Described::plain()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hosts(registry: &str, dir: &Path) -> Vec<(String, bool, Option<String>)> {
        let settings = RegistrySettings {
            hosts_dir: dir.to_owned(),
            plain_http: vec!["plain.io:5000".into()],
            ..RegistrySettings::default()
        };
        of(registry, &settings)
            .unwrap()
            .into_iter()
            .map(|host| {
                let scheme = if host.place.tls { "https" } else { "http" };
                let url = format!("{scheme}://{}{}", host.place.authority, host.place.path);
                (url, host.is_registry, host.of)
            })
            .collect()
    }

    #[test]
    fn without_a_file_it_is_the_registry_itself_and_this_machine_needs_no_tls() {
        let dir = tempfile::tempdir().unwrap();
        for (registry, url) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("r.io:5000", "https://r.io:5000/v2"),
            ("plain.io:5000", "http://plain.io:5000/v2"),
            ("plain.io", "https://plain.io/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.1:443", "https://127.0.0.1:443/v2"),
            ("localhost.evil.io", "https://localhost.evil.io/v2"),
        ] {
            assert_eq!(hosts(registry, dir.path()), [(url.to_owned(), true, None)]);
        }
    }

    #[test]
    fn a_mirror_gets_the_name_of_its_registry_and_is_not_the_registry() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("docker.io")).unwrap();
        fs::write(
            dir.path().join("docker.io/hosts.toml"),
            "[host.\"https://mirror.io\"]",
        )
        .unwrap();
        let expected = [
            (
                "https://mirror.io/v2".to_owned(),
                false,
                Some("docker.io".to_owned()),
            ),
            ("https://registry-1.docker.io/v2".to_owned(), true, None),
        ];
        assert_eq!(hosts("docker.io", dir.path()), expected);
    }

    #[test]
    fn the_directory_is_found_as_containerd_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, server: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(
                dir.path().join(name).join("hosts.toml"),
                format!("server = {server:?}"),
            )
            .unwrap();
        };
        write("_default", "d.io");
        assert_eq!(hosts("r.io:5000", dir.path())[0].0, "https://d.io/v2");
        write("r.io:5000", "c.io");
        assert_eq!(hosts("r.io:5000", dir.path())[0].0, "https://c.io/v2");
        write("r.io_5000_", "u.io");
        assert_eq!(hosts("r.io:5000", dir.path())[0].0, "https://u.io/v2");
        assert_eq!(
            hosts("other.io", dir.path())[0],
            ("https://d.io/v2".into(), false, Some("other.io".into()))
        );
    }

    #[test]
    fn dockers_certificates_are_found_and_mean_tls() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("localhost:5000");
        fs::create_dir(&own).unwrap();
        for name in ["ca.crt", "client.cert", "client.key"] {
            fs::write(own.join(name), "").unwrap();
        }
        assert_eq!(
            hosts("localhost:5000", dir.path())[0].0,
            "https://localhost:5000/v2"
        );
        let found = certificates(&own).unwrap();
        assert_eq!(found.ca, [own.join("ca.crt")]);
        assert_eq!(
            found.client,
            [(own.join("client.cert"), Some(own.join("client.key")))]
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("r.io")).unwrap();
        fs::write(dir.path().join("r.io/hosts.toml"), "server = [").unwrap();
        let settings = RegistrySettings {
            hosts_dir: dir.path().to_owned(),
            ..RegistrySettings::default()
        };
        let refused = of("r.io", &settings).unwrap_err().to_string();
        assert!(
            refused.starts_with("registry r.io cannot be used: ")
                && refused.contains("hosts.toml is not understood"),
            "{refused}"
        );
    }
}
