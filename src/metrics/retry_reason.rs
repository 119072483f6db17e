//! Why something is done once more, as a label of metrics.

/// What is done once more after it has failed or has broken off. Waits for something to happen, which look again and
/// again, are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// The stream of containerd's events ended, and is subscribed to again.
    EventStream,
    /// The call that tells the end of a container broke, and is made again.
    ExitWait,
    /// A task could not be made because an earlier one of its name was in the way, and is made again.
    TaskCreate,
    /// The end of a container's input could not be told, and is told again.
    StdinClose,
    /// A step that undoes something failed, and is tried again.
    Undo,
    /// The removal of what others have left failed, or of images that are too many, and has another turn.
    CleanUp,
    /// A pull failed, and begins anew, as the retry policy says.
    Pull,
    /// The transfer of a layer broke off or brought something else, and goes on, or begins anew.
    Transfer,
    /// A host of a registry could not serve a request, and the next one is asked.
    RegistryHost,
    /// The connection to a syslog endpoint was lost, and is opened again.
    Syslog,
    /// A network of the pool could not be made or removed, and is made or removed again.
    PoolNetwork,
}

impl RetryReason {
    /// Its name, as a label of metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EventStream => "event_stream",
            Self::ExitWait => "exit_wait",
            Self::TaskCreate => "task_create",
            Self::StdinClose => "stdin_close",
            Self::Undo => "undo",
            Self::CleanUp => "clean_up",
            Self::Pull => "pull",
            Self::Transfer => "transfer",
            Self::RegistryHost => "registry_host",
            Self::Syslog => "syslog",
            Self::PoolNetwork => "pool_network",
        }
    }
}
