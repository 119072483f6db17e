//! Translates the contract's logger configuration, a URL and tags, into a syslog endpoint and the tag of its messages.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::Context;
use crate::driver::{ContainerTask, ErrSyslogUnavailable, Error, ErrorKind, notation};
use crate::metrics::Metrics;
use crate::stdio::{Endpoint, NoSyslog, Syslog};

/// The destination of a task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    url: String,
    endpoint: Endpoint,
    tag: String,
}

impl Log {
    /// The log that the task requests; `None` without a URL.
    pub(super) fn of(task: &dyn ContainerTask) -> Result<Option<Self>, Error> {
        let config = task.logger_config();
        let url = config.url.trim();
        if url.is_empty() {
            return Ok(None);
        }
        let endpoint = Endpoint::parse(url).map_err(|error| Error::new(ErrorKind::InvalidTask, error))?;
        Ok(Some(Self {
            url: url.to_owned(),
            endpoint,
            // Docker uses the container's id.
            tag: notation::log_tag(&config.tags).unwrap_or_else(|| task.id().to_owned()),
        }))
    }

    /// Connects to the endpoint.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn connect(
        &self,
        ctx: &Context,
        tracker: &TaskTracker,
        metrics: &Arc<Metrics>,
    ) -> Result<Syslog, Error> {
        match Syslog::connect(ctx, &self.endpoint, &self.tag, tracker, metrics).await {
            Ok(syslog) => Ok(syslog),
            Err(NoSyslog::Unavailable(cause)) => Err(ErrSyslogUnavailable {
                url: self.url.clone(),
                cause,
            }
            .into()),
            Err(NoSyslog::Cancelled(why)) => Err(why.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{LoggerConfig, LoggerTag, Task};

    fn task(url: &str, tags: &[(&str, &str)]) -> Task {
        let tag = |(name, value): &(&str, &str)| LoggerTag {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        Task {
            id: "c1".to_owned(),
            logger_config: LoggerConfig {
                url: url.to_owned(),
                tags: tags.iter().map(tag).collect(),
            },
            ..Task::default()
        }
    }

    #[test]
    fn the_tags_are_pairs_and_without_any_the_container_has_a_name() {
        let log = |tags| Log::of(&task(" udp://logs ", tags)).unwrap().unwrap();
        assert_eq!(log(&[("app_id", "a"), ("fn_id", "f")]).tag, "app_id=a,fn_id=f");
        assert_eq!(log(&[]).tag, "c1");
        assert_eq!(log(&[]).url, "udp://logs");
    }

    #[test]
    fn no_url_is_no_log_and_a_bad_one_is_a_bad_task() {
        assert_eq!(Log::of(&task(" ", &[("a", "b")])).unwrap(), None);
        let error = Log::of(&task("tcp+tls://logs", &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTask);
        assert!(error.report().contains("tcp+tls://logs"), "{error:?}");
    }
}
