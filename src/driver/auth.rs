//! Credentials of one task for a registry, used where the driver's own credentials are not enough.

use std::fmt;

use async_trait::async_trait;

use super::Error;
use crate::Context;

/// Credentials for a registry. Never printed: `Debug` shows the variant and hides the secret.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Credentials {
    /// A user name and its password.
    Basic {
        /// The user name.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// A token that is exchanged for one that grants access.
    IdentityToken(String),
    /// A token that the registry accepts as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username}, ***)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(***)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(***)"),
        }
    }
}

/// Provides the credentials for a task's image.
#[async_trait]
pub trait Auther: fmt::Debug + Send + Sync {
    /// The credentials to pull `image` with; with `None` the driver uses its configuration.
    ///
    /// # Cancellation
    /// The future is dropped when the pull's context ends, or the cookie is closed.
    async fn credentials(&self, ctx: &Context, image: &str) -> Result<Option<Credentials>, Error>;
}

/// Fixed credentials, for every image.
#[async_trait]
impl Auther for Credentials {
    async fn credentials(&self, _: &Context, _: &str) -> Result<Option<Self>, Error> {
        Ok(Some(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        for credentials in [
            Credentials::Basic {
                username: "bob".to_owned(),
                password: "hunter2".to_owned(),
            },
            Credentials::IdentityToken("hunter2".to_owned()),
            Credentials::RegistryToken("hunter2".to_owned()),
        ] {
            let shown = format!("{credentials:?}");
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
