//! Parses a `hosts.toml` as containerd defines it (its docs/hosts.md). Pure, except that paths are made absolute.
//!
//! The hosts are in the order of the file, and the server is last. One difference is intended: a file that cannot be
//! parsed is an error here, whereas containerd logs the error and uses the registry itself, which may be what the file
//! forbids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::units::go_duration;

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Content by its digest.
    pub(super) pull: bool,
    /// Resolving a tag, for which the host must be trusted.
    pub(super) resolve: bool,
}

/// One host of the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The address; `None` means the registry itself.
    pub(super) at: Option<Place>,
    pub(super) capabilities: Capabilities,
    /// Files with certificates to trust.
    pub(super) ca: Vec<PathBuf>,
    /// Certificate and key to present; without a second file, the first one contains both.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(super) skip_verify: bool,
    pub(super) headers: Vec<(String, String)>,
    pub(super) dial_timeout: Option<Duration>,
}

/// The base of a host's URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tls: bool,
    /// The host, possibly with a port.
    pub(super) authority: String,
    /// The path, as in `/v2`, without a slash at the end.
    pub(super) path: String,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    server: String,
    /// Kept in the order of the file.
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    root: Host,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Host {
    capabilities: Vec<String>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<Client>,
    skip_verify: bool,
    header: BTreeMap<String, OneOrMany<String>>,
    override_path: bool,
    dial_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A list of two files means two files that each contain both; a pair is a list within the list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(PathBuf),
    Many(Vec<Pair>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Pair {
    Both(PathBuf),
    Two([PathBuf; 2]),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl Capabilities {
    pub(super) const ALL: Self = Self {
        pull: true,
        resolve: true,
    };
}

impl std::fmt::Debug for Described {
    /// Omits the headers, because one of them may be a login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Described")
            .field("at", &self.at)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Described {
    /// The same description without client certificates, for the hosts to which this one refers.
    pub(super) fn without_client(&self) -> Self {
        Self {
            client: Vec::new(),
            ..self.clone()
        }
    }

    /// The registry itself, as without a file.
    pub(super) fn plain() -> Self {
        Self {
            at: None,
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: false,
            headers: Vec::new(),
            dial_timeout: None,
        }
    }
}

/// The hosts to ask, in order. `base` is the directory of the file. The error reads after the file's name.
pub(super) fn parse(text: &str, base: &Path) -> Result<Vec<Described>, String> {
    let file: File =
        toml::from_str(text).map_err(|why| format!("is not understood: {}", why.message().trim()))?;
    let mut hosts = Vec::new();
    for (url, table) in file.host {
        let host: Host = table.try_into().map_err(|why: toml::de::Error| {
            format!("is not understood at host {url:?}: {}", why.message())
        })?;
        hosts.push(describe(&url, host, base)?);
    }
    hosts.push(describe(&file.server, file.root, base)?);
    Ok(hosts)
}

fn describe(url: &str, host: Host, base: &Path) -> Result<Described, String> {
    let absolute = |path: PathBuf| base.join(path);
    let headers = host
        .header
        .into_iter()
        .flat_map(|(name, values)| {
            values
                .into_vec()
                .into_iter()
                .map(move |value| (name.clone(), value))
        })
        .collect();
    let pairs = match host.client {
        None => Vec::new(),
        Some(Client::One(both)) => vec![Pair::Both(both)],
        Some(Client::Many(pairs)) => pairs,
    };
    Ok(Described {
        at: place(url, host.override_path)?,
        capabilities: capabilities(&host.capabilities)?,
        ca: host
            .ca
            .map(OneOrMany::into_vec)
            .unwrap_or_default()
            .into_iter()
            .map(absolute)
            .collect(),
        client: pairs
            .into_iter()
            .map(|pair| match pair {
                Pair::Both(file) => (absolute(file), None),
                Pair::Two([certificate, key]) => (absolute(certificate), Some(absolute(key))),
            })
            .collect(),
        skip_verify: host.skip_verify,
        headers,
        dial_timeout: host.dial_timeout.as_deref().map(dial_timeout).transpose()?,
    })
}

fn capabilities(words: &[String]) -> Result<Capabilities, String> {
    if words.is_empty() {
        return Ok(Capabilities::ALL);
    }
    let mut found = Capabilities {
        pull: false,
        resolve: false,
    };
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => {}
            _ => return Err(format!("has the unknown capability {word:?}")),
        }
    }
    Ok(found)
}

fn place(url: &str, override_path: bool) -> Result<Option<Place>, String> {
    if url.is_empty() {
        return Ok(None);
    }
    let (tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return Err(format!("names {url:?}, which is neither http nor https")),
        None => (true, url),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let path = path.trim_end_matches('/');
    let path = if override_path || path.ends_with("/v2") {
        path.to_owned()
    } else {
        format!("{path}/v2")
    };
    super::origin::uri(tls, authority, if path.is_empty() { "/" } else { &path })
        .map_err(|why| format!("names {url:?}: {why}"))?;
    Ok(Some(Place {
        tls,
        authority: authority.to_owned(),
        path,
    }))
}

fn dial_timeout(text: &str) -> Result<Duration, String> {
    go_duration(text)
        .ok_or_else(|| format!("has the dial_timeout {text:?}, which is not a duration such as 5s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_in_the_order_of_the_file_and_the_server_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            ca = "own.pem"
            [host."https://z.mirror:5000"]
              capabilities = ["pull"]
              ca = ["/etc/a.pem", "b.pem"]
              skip_verify = true
              client = [["c.cert", "c.key"], ["d.cert", "/d.key"]]
              dial_timeout = "1m2.5s"
              [host."https://z.mirror:5000".header]
                x-one = "1"
                X-Two = ["2", "3"]
            [host."http://a.mirror/path/"]
              capabilities = ["pull", "Resolve", "push"]
              client = "both.pem"
            [host."b.mirror/v2/inner"]
              override_path = true
        "#;
        let hosts = parse(text, Path::new("/certs/docker.io")).unwrap();
        let at: Vec<_> = hosts.iter().map(|host| host.at.clone().unwrap()).collect();
        let place = |tls, authority: &str, path: &str| Place {
            tls,
            authority: authority.into(),
            path: path.into(),
        };
        assert_eq!(
            at,
            [
                place(true, "z.mirror:5000", "/v2"),
                place(false, "a.mirror", "/path/v2"),
                place(true, "b.mirror", "/v2/inner"),
                place(true, "registry-1.docker.io", "/v2"),
            ]
        );
        let z = &hosts[0];
        assert_eq!(
            (z.capabilities.pull, z.capabilities.resolve, z.skip_verify),
            (true, false, true)
        );
        assert_eq!(
            z.ca,
            [Path::new("/etc/a.pem"), Path::new("/certs/docker.io/b.pem")]
        );
        assert_eq!(
            z.client[1],
            ("/certs/docker.io/d.cert".into(), Some("/d.key".into()))
        );
        assert_eq!(z.dial_timeout, Some(Duration::from_millis(62_500)));
        let headers: Vec<_> = z
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(headers, ["X-Two=2", "X-Two=3", "x-one=1"]);
        assert_eq!(hosts[1].capabilities, Capabilities::ALL);
        assert_eq!(hosts[1].client, [("/certs/docker.io/both.pem".into(), None)]);
        assert_eq!(hosts[3].ca, [Path::new("/certs/docker.io/own.pem")]);
    }

    #[test]
    fn an_empty_file_is_the_registry_itself() {
        assert_eq!(parse("", Path::new("/")).unwrap(), [Described::plain()]);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (text, why) in [
            ("server = 3", "is not understood: "),
            ("[host.\"https://a\"]\nskip_verify = 7", "at host \"https://a\""),
            ("capabilities = [\"push\", \"fly\"]", "unknown capability \"fly\""),
            ("server = \"ftp://a\"", "neither http nor https"),
            ("server = \"https://u:p@a\"", "a user name in a URL"),
            ("dial_timeout = \"5\"", "not a duration"),
            ("dial_timeout = \"-5s\"", "not a duration"),
            ("server = \"https://a b\"", "is not a host"),
        ] {
            let refused = parse(text, Path::new("/")).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
