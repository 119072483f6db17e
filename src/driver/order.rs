//! The order in which the methods of a cookie may be called: one table for all drivers.
//!
//! ```text
//!          validate: true        validate: false
//! Fresh ──► Missing ─ pull ─► Pulled ─ validate ─► Valid ─ create ─► Created ─ run ─► Running ⟲ freeze, unfreeze
//!   └────────────────────────────────────────────────┘
//! close leads from everywhere to Closed, where only close is left.
//! ```

use std::fmt;

use super::{Error, ErrorKind};

/// The state of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No step was taken yet.
    Fresh,
    /// The image was not found here, and must be pulled.
    Missing,
    /// The image was pulled, and must be validated again.
    Pulled,
    /// The image is here and can be used.
    Valid,
    /// The container was created.
    Created,
    /// The container was started.
    Running,
    /// The cookie was closed.
    Closed,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 7] = [
        Self::Fresh,
        Self::Missing,
        Self::Pulled,
        Self::Valid,
        Self::Created,
        Self::Running,
        Self::Closed,
    ];

    fn because(self) -> &'static str {
        match self {
            Self::Fresh => "its image has not been validated",
            Self::Missing => "its image has not been pulled",
            Self::Pulled => "its image has not been validated since the pull",
            Self::Valid => "it has not been created",
            Self::Created => "it is created and has not been started",
            Self::Running => "it has been started",
            Self::Closed => "its cookie is closed",
        }
    }
}

/// A step of a cookie's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// [`Cookie::validate_image`](super::Cookie::validate_image).
    ValidateImage,
    /// [`Cookie::pull_image`](super::Cookie::pull_image).
    PullImage,
    /// A change of [`Cookie::container_options`](super::Cookie::container_options).
    ChangeOptions,
    /// [`Cookie::create_container`](super::Cookie::create_container).
    CreateContainer,
    /// [`Cookie::run`](super::Cookie::run).
    Run,
    /// [`Cookie::freeze`](super::Cookie::freeze).
    Freeze,
    /// [`Cookie::unfreeze`](super::Cookie::unfreeze).
    Unfreeze,
    /// [`Cookie::close`](super::Cookie::close).
    Close,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 8] = [
        Self::ValidateImage,
        Self::PullImage,
        Self::ChangeOptions,
        Self::CreateContainer,
        Self::Run,
        Self::Freeze,
        Self::Unfreeze,
        Self::Close,
    ];

    /// Whether this step may be taken from `phase`.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::OutOfOrder`], with the container, the step and the reason.
    pub fn check(self, phase: Phase, id: &str) -> Result<(), Error> {
        use Phase::{Created, Fresh, Missing, Pulled, Running, Valid};
        let allowed = match self {
            Self::ValidateImage => matches!(phase, Fresh | Missing | Pulled | Valid),
            // Pulling again, or while the image is here already, is wasteful but not a mistake.
            Self::PullImage => matches!(phase, Missing | Pulled | Valid),
            Self::ChangeOptions => matches!(phase, Fresh | Missing | Pulled | Valid),
            Self::CreateContainer => matches!(phase, Valid),
            Self::Run => matches!(phase, Created),
            Self::Freeze | Self::Unfreeze => matches!(phase, Running),
            Self::Close => true,
        };
        if allowed {
            return Ok(());
        }
        let out_of_order = OutOfOrder {
            id: id.to_owned(),
            step: self,
            phase,
        };
        Err(Error::new(ErrorKind::OutOfOrder, out_of_order))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ValidateImage => "validate the image of",
            Self::PullImage => "pull the image of",
            Self::ChangeOptions => "change the options of",
            Self::CreateContainer => "create",
            Self::Run => "run",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Close => "close",
        })
    }
}

/// A step that was requested too early or too late.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {step} container {id:?}: {}", phase.because())]
pub struct OutOfOrder {
    /// The container's id.
    pub id: String,
    /// The step that was requested.
    pub step: Step,
    /// The state of the cookie.
    pub phase: Phase,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_allows_its_steps_and_no_other() {
        use Step::{ChangeOptions, Close, CreateContainer, Freeze, PullImage, Run, Unfreeze, ValidateImage};
        for (phase, allowed) in [
            (Phase::Fresh, &[ValidateImage, ChangeOptions, Close][..]),
            (Phase::Missing, &[ValidateImage, PullImage, ChangeOptions, Close]),
            (Phase::Pulled, &[ValidateImage, PullImage, ChangeOptions, Close]),
            (
                Phase::Valid,
                &[ValidateImage, PullImage, ChangeOptions, CreateContainer, Close],
            ),
            (Phase::Created, &[Run, Close]),
            (Phase::Running, &[Freeze, Unfreeze, Close]),
            (Phase::Closed, &[Close]),
        ] {
            let found: Vec<_> = Step::ALL
                .into_iter()
                .filter(|step| step.check(phase, "c1").is_ok())
                .collect();
            assert_eq!(found, allowed, "{phase:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_state_that_prevents_the_step() {
        let error = Step::Run.check(Phase::Valid, "c1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfOrder);
        assert_eq!(
            error.report(),
            "cannot run container \"c1\": it has not been created"
        );
    }
}
