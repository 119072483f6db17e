//! A docker configuration (`~/.docker/config.json`), as far as it concerns logins. Pure.
//!
//! The older form, without `auths` around the entries, is read too, because some hosts still put it into their
//! environment.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::rules::{host_of, is_of_host, store_key};
use super::{Credential, Error};

/// The logins in a configuration.
#[derive(Debug, Default)]
pub(super) struct DockerConfig {
    /// By host: the key as written in the file, and the credential of the entry.
    entries: BTreeMap<String, (String, Option<Credential>)>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// `from` names the source of the text for error messages. The error contains no part of the text.
    pub(super) fn parse(from: &str, json: &str) -> Result<Self, Error> {
        let malformed = |why: String| Error::Malformed {
            from: from.to_owned(),
            why,
        };
        // The messages of serde quote the invalid value, which may be a password.
        let place = |why: &serde_json::Error| match why.classify() {
            serde_json::error::Category::Data => "something in it is of the wrong type".to_owned(),
            _ => format!("it is not JSON at line {} column {}", why.line(), why.column()),
        };
        let value: Value = serde_json::from_str(json).map_err(|why| malformed(place(&why)))?;
        let Value::Object(object) = &value else {
            return Err(malformed("it is not an object".to_owned()));
        };
        let known = ["auths", "credHelpers", "credsStore", "HttpHeaders", "proxies"];
        let old = !known.iter().any(|name| object.contains_key(*name))
            && object
                .values()
                .all(|value| value.get("auth").is_some() || value.get("username").is_some());
        let file = if old {
            serde_json::from_value(value).map(|entries| File {
                auths: Some(entries),
                cred_helpers: None,
                creds_store: None,
            })
        } else {
            serde_json::from_value(value)
        };
        let file: File = file.map_err(|why| malformed(place(&why)))?;
        let mut entries = BTreeMap::new();
        for (key, entry) in file.auths.unwrap_or_default() {
            let credential =
                credential(entry).map_err(|why| malformed(format!("the entry of {key:?} {why}")))?;
            // Keys with other paths are not logins: docker stores a refresh token at `…/v1/refresh-token`.
            if !is_of_host(&key) {
                continue;
            }
            let known = entries
                .entry(host_of(&key))
                .or_insert_with(|| (key.clone(), None));
            if known.1.is_none() {
                *known = (key, credential);
            }
        }
        let helpers = file.cred_helpers.unwrap_or_default();
        Ok(Self {
            entries,
            helpers: helpers
                .into_iter()
                .map(|(key, name)| (host_of(&key), name))
                .filter(|(_, name)| !name.is_empty())
                .collect(),
            store: file.creds_store.filter(|name| !name.is_empty()),
        })
    }

    /// Every host for which there is an entry or a helper.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().chain(self.helpers.keys()).map(String::as_str)
    }

    /// The helper that is configured only for this host.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        self.helpers.get(key).map(String::as_str)
    }

    /// The helper for all hosts.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// The credential that the file itself contains for this host.
    pub(super) fn entry(&self, key: &str) -> Option<Credential> {
        self.entries
            .get(key)
            .and_then(|(_, credential)| credential.clone())
    }

    /// A host as written in the file, which is the name that helpers expect.
    pub(super) fn as_written<'a>(&'a self, key: &'a str) -> &'a str {
        self.entries
            .get(key)
            .map_or_else(|| store_key(key), |(written, _)| written.as_str())
    }
}

/// The error reads after "the entry of HOST" and contains no part of the entry.
fn credential(entry: Entry) -> Result<Option<Credential>, &'static str> {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = some(entry.registrytoken) {
        return Ok(Some(Credential::RegistryToken(token)));
    }
    if let Some(token) = some(entry.identitytoken) {
        return Ok(Some(Credential::IdentityToken(token)));
    }
    if let Some(auth) = some(entry.auth) {
        let decoded = STANDARD
            .decode(auth.trim())
            .map_err(|_| "has an auth that is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "has an auth that is not text")?;
        let (username, password) = decoded
            .split_once(':')
            .ok_or("has an auth without a colon in it")?;
        return Ok(Some(Credential::Basic {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(some(entry.username).map(|username| Credential::Basic {
        username,
        password: entry.password.unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_entry_is_read() {
        // printf 'bob:a:b' | base64
        let json = r#"{"auths": {
            "https://a.io/v1/": {"auth": "Ym9iOmE6Yg=="},
            "b.io": {"username": "bob", "password": "p"},
            "c.io": {"auth": "Ym9iOmE6Yg==", "identitytoken": "id"},
            "d.io": {"registrytoken": "reg"},
            "e.io": {}, "f.io": {"auth": ""}
        }, "credsStore": "pass", "credHelpers": {"g.io": "gcloud"}, "psFormat": "x"}"#;
        let config = DockerConfig::parse("x", json).unwrap();
        let basic = |password: &str| {
            Some(Credential::Basic {
                username: "bob".into(),
                password: password.into(),
            })
        };
        assert_eq!(config.entry("a.io"), basic("a:b"));
        assert_eq!(config.as_written("a.io"), "https://a.io/v1/");
        assert_eq!(config.entry("b.io"), basic("p"));
        assert_eq!(config.entry("c.io"), Some(Credential::IdentityToken("id".into())));
        assert_eq!(
            config.entry("d.io"),
            Some(Credential::RegistryToken("reg".into()))
        );
        assert_eq!(config.entry("e.io"), None);
        assert_eq!(config.entry("f.io"), None);
        assert_eq!(
            (config.store(), config.helper("g.io"), config.helper("a.io")),
            (Some("pass"), Some("gcloud"), None)
        );
    }

    #[test]
    fn what_docker_keeps_beside_a_login_is_not_the_login() {
        // As a web-based `docker login` writes it: access token and refresh token have keys below the host's.
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "Ym9iOmE6Yg=="},
            "https://index.docker.io/v1/access-token": {"auth": "Ym9iOmFjY2Vzcw=="},
            "https://index.docker.io/v1/refresh-token": {"auth": "Ym9iOnJlZnJlc2g="},
            "q.io/ns": {"auth": "Ym9iOm5z"}, "q.io": {"auth": "Ym9iOmE6Yg=="},
            "e.io": {"auth": "Ym9iOmE6Yg=="}, "https://e.io": {}
        }, "credHelpers": {"docker.io": "hub"}}"#;
        let config = DockerConfig::parse("x", json).unwrap();
        let bob = Some(Credential::Basic {
            username: "bob".into(),
            password: "a:b".into(),
        });
        for host in ["index.docker.io", "q.io", "e.io"] {
            assert_eq!(config.entry(host), bob, "{host}");
        }
        assert_eq!(
            config.as_written("index.docker.io"),
            "https://index.docker.io/v1/"
        );
        assert_eq!(config.as_written("docker.io"), "https://index.docker.io/v1/");
        assert_eq!(config.as_written("r.io"), "r.io");
    }

    #[test]
    fn the_older_form_is_read_too() {
        let json = r#"{"https://a.io/v1/": {"auth": "Ym9iOmE6Yg==", "email": "x"}}"#;
        assert!(DockerConfig::parse("x", json).unwrap().entry("a.io").is_some());
        assert_eq!(DockerConfig::parse("x", "{}").unwrap().keys().count(), 0);
        let null = r#"{"auths": null, "credHelpers": null}"#;
        assert_eq!(DockerConfig::parse("x", null).unwrap().keys().count(), 0);
    }

    #[test]
    fn what_is_broken_is_named() {
        for (json, why) in [
            ("[]", "it is not an object"),
            ("{\n  \"auths\"", "it is not JSON at line 2"),
            (
                r#"{"auths": {"a.io": {"auth": "%%%"}}}"#,
                "the entry of \"a.io\" has an auth that is not base64",
            ),
            (r#"{"auths": {"a.io": {"auth": "Ym9i"}}}"#, "without a colon"),
            (r#"{"auths": {"a.io": 3}}"#, "of the wrong type"),
        ] {
            let refused = DockerConfig::parse("x", json).unwrap_err().to_string();
            assert!(refused.contains(why), "{json}: {refused}");
        }
    }
}
