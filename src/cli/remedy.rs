//! Remedies for errors in terms of the command line. The errors themselves only state what is wrong, because they are
//! not specific to the command line.

use std::borrow::Cow;
use std::error::Error;

use crate::engine::{AlreadyServed, ImageError, NoPlan, NotAttached, NotStarted, RuntimeFailed, Unlimited};
use crate::sandbox::Error as NetworkError;

/// The advice to append to an error's sentence, if the command line has a remedy.
pub(super) fn remedy(error: &(dyn Error + 'static)) -> Option<Cow<'static, str>> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let found = error.downcast_ref().and_then(of_image);
        let found = found.or_else(|| error.downcast_ref().and_then(of_network));
        let found = found.or_else(|| of_container(error).map(Cow::Borrowed));
        if let Some(found) = found.or_else(|| error.downcast_ref().map(of_runtime)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The crate's name for the setting that an error is about, and the command-line option that sets it.
pub(super) fn renamed(error: &(dyn Error + 'static)) -> Option<(&'static str, &'static str)> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Unlimited>() {
            return Some(("fs_size", "--fs-size"));
        }
        if let Some(fnctr_oci::Error::OomGroup) = error.downcast_ref() {
            return Some(("oom_group", "--oom-group"));
        }
        cause = error.source();
    }
    None
}

fn of_container(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref() {
        return match error {
            NotAttached::NotRunning => Some("`fnctr start --attach` starts it and attaches to it"),
            NotAttached::NoStreams => Some("start it with `fnctr run` or `fnctr start --attach`"),
            NotAttached::NotShared | NotAttached::Io(_) => None,
        };
    }
    if error.is::<AlreadyServed>() {
        return Some("stop that one, or choose another --namespace");
    }
    if let Some(NotStarted::Lost) = error.downcast_ref() {
        return Some("`fnctr stop` or `fnctr kill` ends them");
    }
    match error.downcast_ref() {
        Some(NoPlan::NotKept) => Some(
            "`fnctr create`, `fnctr run -d` and `fnctr run --rm=false` make containers that can be started again",
        ),
        _ => None,
    }
}

fn of_image(error: &ImageError) -> Option<Cow<'static, str>> {
    let fixed = match error {
        ImageError::NoSuchImage { .. } => "`fnctr images` lists those that are here",
        ImageError::SeveralImages { .. } => "give more of it",
        ImageError::SeveralNames { .. } => "remove it by name, or with --force all of them",
        ImageError::InUse { .. } => {
            "remove that first, or use --force: the container keeps running without the image"
        }
        ImageError::Packed { program, .. } => {
            return Some(format!("`{program} FILE | fnctr load` loads it").into());
        }
        _ => return None,
    };
    Some(fixed.into())
}

fn of_runtime(error: &RuntimeFailed) -> Cow<'static, str> {
    match error {
        RuntimeFailed::NotOne { .. } => "--runtime chooses it, and `fnctr doctor` checks it".into(),
        RuntimeFailed::OpenFiles => "--open-files or --ulimit nofile sets it".into(),
    }
}

fn of_network(error: &NetworkError) -> Option<Cow<'static, str>> {
    match error {
        NetworkError::Unpublishable { .. } => {
            Some("leave the IP out of --publish, give another, or name another network with --network".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;
    use crate::containerd_driver::translate;
    use crate::engine;

    #[test]
    fn the_command_line_adds_advice_that_the_error_itself_lacks() {
        let missing = || ImageError::NoSuchImage { image: "a".into() };
        let used = || ImageError::InUse {
            image: "a".into(),
            container: "c".into(),
        };
        for (error, fact, advice) in [
            (
                missing(),
                "there is no image a",
                "`fnctr images` lists those that are here",
            ),
            (
                ImageError::Packed {
                    path: "a.tar.xz".into(),
                    name: "xz",
                    program: "xz -dc",
                },
                "a.tar.xz is compressed with xz, which is not understood",
                "`xz -dc FILE | fnctr load` loads it",
            ),
            (
                used(),
                "image a is used by container c",
                "remove that first, or use --force: the container keeps running without the image",
            ),
        ] {
            let error = engine::Error::new(engine::Step::Untag, "a", engine::Kind::Conflict, error);
            let error = translate(error);
            assert_eq!(error.report(), format!("cannot remove a: {fact}"));
            let told = Failure::from(error).to_string();
            assert_eq!(told, format!("cannot remove a: {fact}; {advice}"));
        }
        assert_eq!(
            Failure::missing(&missing()).to_string(),
            "there is no image a; `fnctr images` lists those that are here"
        );
        assert_eq!(remedy(&std::io::Error::other("x")), None);
    }

    #[test]
    fn a_setting_has_the_name_of_its_option_and_nothing_else_is_renamed() {
        let told = |error: engine::Error| Failure::from(translate(error)).to_string();
        let error = Unlimited::TooMuch { bytes: 1 << 63 };
        let error = engine::Error::new(engine::Step::Check, "c", engine::Kind::InvalidPlan, error);
        assert!(told(error).contains("--fs-size of 9223372036854775808 bytes"));
        let error = fnctr_oci::Error::OomGroup;
        let error = engine::Error::new(engine::Step::Check, "c", engine::Kind::Unsupported, error);
        assert!(told(error).contains("--oom-group cannot be enforced"));
        let error = engine::Error::new(
            engine::Step::Find,
            "fs_size",
            engine::Kind::NotFound,
            "no such container",
        );
        assert!(told(error).contains("cannot find fs_size"));
        let port = NetworkError::Unpublishable {
            port: "[::1]:1:2/tcp".into(),
            network: "n".into(),
            why: "it cannot".into(),
        };
        let error = engine::Error::new(engine::Step::Network, "c", engine::Kind::InvalidPlan, port);
        let told = Failure::from(translate(error)).to_string();
        assert!(told.ends_with(
            "it cannot; leave the IP out of --publish, give another, or name another network with --network"
        ));
    }
}
