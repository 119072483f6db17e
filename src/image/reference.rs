//! Image references, by Docker's familiar rules: `busybox` is `docker.io/library/busybox:latest`.
//!
//! A [`Reference`] is always in its full form, which is the name of the image in containerd. When a reference has both
//! a tag and a digest, the tag is dropped, because the digest alone identifies the image.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The limits of the reference grammar.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a reference was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference:?} is not an image name: {why}")]
pub(crate) struct InvalidReference {
    reference: String,
    why: &'static str,
}

/// A full image reference: registry, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    domain: String,
    path: String,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// Parses a familiar or a full reference.
    ///
    /// # Errors
    /// The error names the reference and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidReference> {
        let fail = |why| InvalidReference {
            reference: text.chars().take(300).collect(),
            why,
        };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::new(digest)
                    .map_err(|_| fail("after '@' there must be sha256: and 64 lower-case hex digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest);
        // A colon after the last slash separates the tag; one before it belongs to the port, split off already.
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_domain(domain).map_err(fail)?;
        check_path(path).map_err(fail)?;
        let version = match (digest, tag) {
            (Some(digest), tag) => {
                tag.map_or(Ok(()), check_tag).map_err(fail)?;
                Version::Digest(digest)
            }
            (None, tag) => {
                let tag = tag.unwrap_or(DEFAULT_TAG);
                check_tag(tag).map_err(fail)?;
                Version::Tag(tag.to_owned())
            }
        };
        let domain = if domain == LEGACY_DOMAIN {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(fail("registry and repository are longer than 255 characters"));
        }
        Ok(Self {
            domain: domain.to_owned(),
            path,
            version,
        })
    }

    /// The registry, as in `docker.io`.
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, as in `library/busybox`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The tag; `None` if a digest identifies the image.
    pub(crate) fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, if the reference has one.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// The short form that users know, as in `busybox:latest`.
    pub(crate) fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else {
            return full;
        };
        let official = short.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        official.unwrap_or(short).to_owned()
    }
}

/// The first component is a registry only if it looks like one: `a.b/c`, `a:5000/c`, `localhost/c`.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the registry's '[' has no ']'")?;
            if host.is_empty() || !host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err("the registry is not an IPv6 address");
            }
            let port = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                None => return Err("after the registry's ']' only a port may follow"),
                port => port,
            };
            return check_port(port);
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err("the registry is not a host name");
    }
    check_port(port)
}

fn check_port(port: Option<&str>) -> Result<(), &'static str> {
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => {
            Err("the registry's port is not a number")
        }
        // Rejected here, because a client that cannot use the port would connect to the default port.
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => {
            Err("the registry's port is not between 1 and 65535")
        }
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository must be lower-case");
    }
    if path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("64 hex digits are an image id, not a name");
    }
    if path.split('/').all(component) {
        Ok(())
    } else {
        Err(
            "a repository is made of lower-case letters and digits, with single '.', '_', '__' or '-' between them",
        )
    }
}

/// alnum+ (separator alnum+)*, where a separator is '.', '_', '__' or any number of '-'.
fn component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = text.starts_with(alnum) && text.ends_with(alnum);
    let separators = text.split(alnum).filter(|between| !between.is_empty());
    ends && separators
        .into_iter()
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if tag.is_empty() {
        return Err("the tag is empty");
    }
    if tag.len() > MAX_TAG {
        return Err("the tag is longer than 128 characters");
    }
    if !tag.bytes().next().is_some_and(word) || !tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-')) {
        return Err("a tag is made of letters, digits, '_', '.' and '-', and does not start with '.' or '-'");
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn familiar_names_are_completed_as_docker_does() {
        let hex = "a".repeat(64);
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("fnproject/hello", "docker.io/fnproject/hello:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("quay.io/a/b/c:V_1.2-x", "quay.io/a/b/c:V_1.2-x"),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
        ] {
            assert_eq!(Reference::parse(short).unwrap().to_string(), full, "{short}");
        }
        let both = Reference::parse(&format!("r.io/a:v2@sha256:{hex}")).unwrap();
        assert_eq!(both.to_string(), format!("r.io/a@sha256:{hex}"));
        assert_eq!(
            (both.tag(), both.digest().map(Digest::hex)),
            (None, Some(hex.as_str()))
        );
        assert_eq!((both.domain(), both.path()), ("r.io", "a"));
    }

    #[test]
    fn a_bad_name_is_refused_by_name_and_reason() {
        for (bad, why) in [
            ("", "it is empty"),
            ("Busybox", "the repository must be lower-case"),
            ("a/B:c", "the repository must be lower-case"),
            ("a:", "the tag is empty"),
            ("a:-x", "a tag is made of letters"),
            ("a@sha256:12", "after '@' there must be sha256:"),
            ("a//b", "a repository is made of"),
            ("/a", "a repository is made of"),
            ("a/", "a repository is made of"),
            ("a..b", "a repository is made of"),
            ("a b", "a repository is made of"),
            ("../etc", "a registry"),
            ("h:port/x", "the registry's port is not a number"),
            (
                "localhost:99999/a",
                "the registry's port is not between 1 and 65535",
            ),
            (
                "localhost:65536/a",
                "the registry's port is not between 1 and 65535",
            ),
            ("r.io:0/a", "the registry's port is not between 1 and 65535"),
            ("[::1]:99999/a", "the registry's port is not between 1 and 65535"),
            ("-a.b/c", "the registry is not a host name"),
            (&"a".repeat(64), "64 hex digits are an image id"),
            (&"x".repeat(256), "registry and repository are longer"),
            (&format!("a:{}", "t".repeat(129)), "the tag is longer"),
        ] {
            let refused = Reference::parse(bad).unwrap_err().to_string();
            let named = refused.starts_with(&format!("{bad:?} is not an image name: "));
            assert!(named, "{refused}");
            let why = if bad == "../etc" {
                "the registry is not a host name"
            } else {
                why
            };
            assert!(refused.contains(why), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(
            domain in "([a-z]{1,5}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?",
            path in "[a-z0-9]{1,5}((_|__|-{1,2})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,5}([._][a-z]{1,3})?){0,2}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?",
            digest in "(@sha256:[0-9a-f]{64})?",
        ) {
            let parsed = Reference::parse(&format!("{domain}{path}{tag}{digest}")).unwrap();
            prop_assert_eq!(&Reference::parse(&parsed.to_string()).unwrap(), &parsed);
            prop_assert_eq!(&Reference::parse(&parsed.familiar()).unwrap(), &parsed);
        }

        #[test]
        fn no_text_is_a_panic(text in ".{0,60}") {
            if let Ok(parsed) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
