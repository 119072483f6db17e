//! Drivers by name, so that a host can choose one in its configuration.
//!
//! The process has one registry, behind [`register`] and [`new`](fn@new). It contains `mock` from the start; programs
//! that link other drivers register them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::{BoxFuture, Config, Driver, Error, ErrorKind, MockDriver};

/// Creates a driver from a configuration.
pub type DriverFunc = Arc<dyn Fn(Config) -> BoxFuture<Result<Arc<dyn Driver>, Error>> + Send + Sync>;

/// A set of drivers by name.
#[derive(Default)]
pub struct Registry {
    known: RwLock<BTreeMap<String, DriverFunc>>,
}

impl Registry {
    /// A registry that contains `mock`.
    #[must_use]
    pub fn with_mock() -> Self {
        let mock: DriverFunc = Arc::new(|_| {
            let driver: Arc<dyn Driver> = Arc::new(MockDriver::default());
            Box::pin(std::future::ready(Ok(driver)))
        });
        Self {
            known: RwLock::new(BTreeMap::from([("mock".to_owned(), mock)])),
        }
    }

    /// Adds a driver. The first registration of a name wins: replacing a driver would surprise hosts that chose it by
    /// name.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Conflict`] if the name is taken.
    pub fn register(&self, name: impl Into<String>, driver: DriverFunc) -> Result<(), Error> {
        let name = name.into();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&name) {
            let text = format!("a driver named {name:?} is registered already");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        known.insert(name, driver);
        Ok(())
    }

    /// The registered names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().cloned().collect()
    }

    /// Creates the driver with this name.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidConfig`] if there is none, with a list of the registered names; else the driver's
    /// own error.
    pub async fn create(&self, name: &str, config: Config) -> Result<Arc<dyn Driver>, Error> {
        let found = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(name).map(Arc::clone)
        };
        let Some(make) = found else {
            let text = format!(
                "there is no driver {name:?}; known are: {}",
                self.names().join(", ")
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        };
        make(config).await
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.names()).finish()
    }
}

static PROCESS: LazyLock<Registry> = LazyLock::new(Registry::with_mock);

/// Adds a driver to this process; see [`Registry::register`].
///
/// # Errors
/// Of kind [`ErrorKind::Conflict`] if the name is taken.
pub fn register(name: impl Into<String>, driver: DriverFunc) -> Result<(), Error> {
    PROCESS.register(name, driver)
}

/// Creates a driver by name; see [`Registry::create`].
///
/// # Errors
/// Of kind [`ErrorKind::InvalidConfig`] if no driver has that name; else the driver's own error.
pub async fn new(name: &str, config: Config) -> Result<Arc<dyn Driver>, Error> {
    PROCESS.create(name, config).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> DriverFunc {
        Arc::new(|config: Config| {
            let error = Error::new(ErrorKind::Unavailable, format!("nobody at {}", config.docker));
            Box::pin(std::future::ready(Err(error)))
        })
    }

    #[tokio::test]
    async fn an_unknown_name_is_answered_with_the_known_ones() {
        let registry = Registry::with_mock();
        registry.register("broken", failing()).unwrap();
        let error = registry.create("dokcer", Config::default()).await.unwrap_err();
        assert_eq!(
            error.report(),
            "there is no driver \"dokcer\"; known are: broken, mock"
        );
    }

    #[tokio::test]
    async fn the_configuration_reaches_the_driver() {
        let registry = Registry::with_mock();
        registry.register("broken", failing()).unwrap();
        let config = Config {
            docker: "/no/socket".to_owned(),
            ..Config::default()
        };
        let error = registry.create("broken", config).await.unwrap_err();
        assert_eq!(error.report(), "nobody at /no/socket");
    }

    #[test]
    fn a_name_is_not_taken_over() {
        let registry = Registry::with_mock();
        let error = registry.register("mock", failing()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn the_process_knows_the_mock_from_the_start() {
        assert!(new("mock", Config::default()).await.is_ok());
        register("only here", failing()).unwrap();
        assert!(register("only here", failing()).is_err());
    }
}
