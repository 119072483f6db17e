//! Names that are passed to containerd and the kernel, checked when they are made.
//!
//! A value of one of these types is safe as a file name, a gRPC metadata value and a containerd identifier, so no other
//! code checks it again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use crate::clock;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// containerd's limit for the length of identifiers (containers, leases, namespaces).
const MAX_LEN: usize = 76;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not usable: {why}")]
pub struct InvalidName {
    what: &'static str,
    name: String,
    why: &'static str,
}

/// The longest name of a container, which is a label of its record.
const LONGEST_NAME: usize = 128;

/// What people call a container whose id is made up. No two containers of a containerd namespace have the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerName(String);

/// A hash of bytes that every version computes alike, so that names made from it are found again (FNV-1a).
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl ContainerName {
    /// Checks the name: letters, digits, `_`, `.` and `-`, of which the last three do not come first; at least two
    /// characters, as Docker demands.
    ///
    /// # Errors
    /// [`InvalidName`] states what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let fail = |why| {
            Err(InvalidName {
                what: "container name",
                name: name.chars().take(LONGEST_NAME).collect(),
                why,
            })
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric();
        match () {
            () if name.len() < 2 => fail("it has fewer than two characters"),
            () if name.len() > LONGEST_NAME => fail("it is longer than 128 characters"),
            () if !name.starts_with(is_plain) => fail("it must start with a letter or a digit"),
            () if !name.chars().all(|c| is_plain(c) || matches!(c, '_' | '.' | '-')) => {
                fail("only letters, digits, '_', '.' and '-' are allowed")
            }
            () => Ok(Self(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ContainerId {
    /// Whether this is an id as [`Self::random`] makes them: 64 hex digits.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.0.len() == 64
            && self
                .0
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// A new id of 64 random hex digits, as Docker's clients expect it. The first twelve are enough for people, and
    /// always contain a letter.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        loop {
            // Up to 256 bytes come whole, once the kernel's generator is ready (getrandom(2)); before, a signal may
            // interrupt the wait.
            if getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(bytes.len()) {
                continue;
            }
            let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            // A program that reads twelve digits may take them for a number.
            if id.bytes().take(12).any(|digit| digit.is_ascii_alphabetic()) {
                return Self(id);
            }
        }
    }
}

/// A name that no other call on this host returns: process id, time and a counter.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = clock::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!(
        "{}-{now}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

fn check(what: &'static str, name: &str) -> Result<(), InvalidName> {
    let fail = |why| {
        Err(InvalidName {
            what,
            name: name.chars().take(120).collect(),
            why,
        })
    };
    if name.is_empty() {
        return fail("it is empty");
    }
    if name.len() > MAX_LEN {
        return fail("it is longer than 76 characters");
    }
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !alphanumeric(name.chars().next()) || !alphanumeric(name.chars().next_back()) {
        return fail("it must start and end with a letter or a digit");
    }
    let mut after_separator = false;
    for c in name.chars() {
        let separator = matches!(c, '-' | '_' | '.');
        if !separator && !c.is_ascii_alphanumeric() {
            return fail("only letters, digits, '-', '_' and '.' are allowed");
        }
        // containerd's grammar is alnum+ (separator alnum+)*, which does not allow two separators in a row.
        if separator && after_separator {
            return fail("two of '-', '_' and '.' in a row are not allowed");
        }
        after_separator = separator;
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the name against containerd's grammar for identifiers.
            ///
            /// # Errors
            /// [`InvalidName`] states what is wrong with it.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                check($what, &name)?;
                Ok(Self(name))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

name_type!(
    /// The name of a container. Its containerd record, its snapshot, its cgroup and its directory of fifos have the
    /// same name.
    ContainerId,
    "container id"
);
name_type!(
    /// A containerd namespace (a tenant of the containerd server, never a kernel namespace).
    Namespace,
    "containerd namespace"
);
name_type!(
    /// The name of a containerd lease.
    LeaseId,
    "lease id"
);

/// A content digest: `sha256:` and 64 lower-case hex digits. Images use no other algorithm in practice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Checks the form of a digest.
    ///
    /// # Errors
    /// [`InvalidName`] states what is wrong with it.
    pub fn new(digest: impl Into<String>) -> Result<Self, InvalidName> {
        let digest = digest.into();
        let fail = |why| {
            Err(InvalidName {
                what: "digest",
                name: digest.chars().take(120).collect(),
                why,
            })
        };
        let Some(hex) = digest.strip_prefix("sha256:") else {
            return fail("it does not start with sha256:");
        };
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return fail("sha256: must be followed by 64 lower-case hex digits");
        }
        Ok(Self(digest))
    }

    /// The digest with its algorithm, as in `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_could_leave_a_directory_is_refused() {
        for bad in [
            "",
            "..",
            "a/b",
            ".a",
            "a-",
            "a..b",
            "a b",
            "a\n",
            "é",
            &"x".repeat(77),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            ContainerId::new("a/b").unwrap_err().to_string(),
            "container id \"a/b\" is not usable: only letters, digits, '-', '_' and '.' are allowed"
        );
    }

    #[test]
    fn a_digest_has_one_form() {
        let hex = "a".repeat(64);
        assert_eq!(Digest::new(format!("sha256:{hex}")).unwrap().hex(), hex);
        for bad in [
            "",
            "sha256:",
            "sha512:aa",
            &format!("sha256:{}", "A".repeat(64)),
            &hex,
        ] {
            assert!(Digest::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn containerd_grammar_is_accepted(name in "[A-Za-z0-9]{1,20}([-_.][A-Za-z0-9]{1,10}){0,4}") {
            let id = ContainerId::new(name.clone()).unwrap();
            prop_assert_eq!(id.as_str(), name);
        }
    }
}
