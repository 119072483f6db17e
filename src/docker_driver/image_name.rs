//! Names of images, as tasks give them and as the engine lists them. Pure.
//!
//! The engine decides what a valid name is. Here only those are refused that could not be sent as a part of a path.

use std::fmt;

use crate::driver::parse_image;

/// All the names of Docker's own registry, which a name without a registry means.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A text that cannot be the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {0:?} is not a name, such as busybox, busybox:1.36 or registry.example:5000/team/fn@sha256:…")]
pub(super) struct NotAName(String);

/// The name of an image. Two that mean the same image are equal, however they are written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ImageName {
    /// Empty for Docker Hub.
    registry: String,
    repository: String,
    tag: String,
    given: Given,
}

/// How the name was written, which is no part of what it means.
#[derive(Debug, Clone)]
struct Given(String);

impl PartialEq for Given {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Given {}

impl std::hash::Hash for Given {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl PartialOrd for Given {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Given {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl ImageName {
    /// Reads a name.
    ///
    /// # Errors
    /// If it is empty, has characters that no name has, or empty or dotted parts.
    pub(super) fn parse(given: &str) -> Result<Self, NotAName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let parts = given.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !parts || !given.chars().all(plain) {
            return Err(NotAName(given.chars().take(120).collect()));
        }
        let (registry, repository, tag) = parse_image(given);
        let is_hub = HUB.contains(&registry.as_str());
        Ok(Self {
            // `docker.io/busybox` is `docker.io/library/busybox`.
            repository: match is_hub && !repository.contains('/') {
                true => format!("library/{repository}"),
                false => repository,
            },
            registry: if is_hub { String::new() } else { registry },
            tag,
            given: Given(given.to_owned()),
        })
    }

    /// The name as it was written.
    pub(super) fn as_given(&self) -> &str {
        &self.given.0
    }

    /// The host of the registry, as credentials are kept for it.
    pub(super) fn registry(&self) -> &str {
        match self.registry.as_str() {
            "" => "docker.io",
            registry => registry,
        }
    }

    /// Registry and repository, as the engine is asked to pull from them.
    pub(super) fn repository(&self) -> String {
        match self.registry.as_str() {
            "" => self.repository.clone(),
            registry => format!("{registry}/{}", self.repository),
        }
    }

    /// The tag, or the digest in its place.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// The name as a key: the same for all names that mean the same image.
    pub(super) fn key(&self) -> String {
        let separator = if self.tag.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{}", self.registry(), self.repository, self.tag)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given.0)
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageName({})", self.given.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(given: &str) -> String {
        ImageName::parse(given).unwrap().key()
    }

    #[test]
    fn however_a_name_is_written_it_means_one_image() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, expected) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:latest", "docker.io/library/busybox:latest".to_owned()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            (
                "index.docker.io/library/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            ("a/b:v1", "docker.io/a/b:v1".to_owned()),
            ("localhost:5000/x:1", "localhost:5000/x:1".to_owned()),
            (&format!("q.io/x:1@{digest}"), format!("q.io/x@{digest}")),
        ] {
            assert_eq!(key(given), expected, "{given}");
        }
        assert_eq!(
            ImageName::parse("busybox"),
            ImageName::parse("docker.io/library/busybox:latest")
        );
    }

    #[test]
    fn the_engine_is_asked_for_a_repository_and_a_tag() {
        let asked = |given: &str| {
            let name = ImageName::parse(given).unwrap();
            (
                name.repository(),
                name.tag().to_owned(),
                name.registry().to_owned(),
            )
        };
        let own = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(asked("busybox"), own("library/busybox", "latest", "docker.io"));
        assert_eq!(asked("r.io:5000/a/b:v1"), own("r.io:5000/a/b", "v1", "r.io:5000"));
    }

    #[test]
    fn what_could_leave_its_place_in_a_path_is_no_name() {
        for bad in [
            "", "/", "a//b", "../x", "a/../b", "a?b", "a b", "a#b", "a%2fb", "ä",
        ] {
            assert!(ImageName::parse(bad).is_err(), "{bad:?}");
        }
        // The engine has more to say about this one.
        assert!(ImageName::parse("UPPER").is_ok());
    }
}
