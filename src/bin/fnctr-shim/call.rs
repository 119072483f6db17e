//! How containerd calls its shim's program.

use std::ffi::OsString;
use std::path::PathBuf;

/// A command line of the shim's program that this program may answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) namespace: OsString,
    pub(crate) id: OsString,
    /// containerd's socket.
    pub(crate) address: PathBuf,
    pub(crate) action: Action,
}

/// What the shim is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a server for the container whose bundle is the working directory.
    Start,
    /// Clean up after a container whose server is gone.
    Delete { bundle: PathBuf },
}

impl Call {
    /// `None` if the arguments ask for something else, or are not as expected: with `-debug`, for example, a shim has
    /// one more socket.
    pub(crate) fn parse(args: &[OsString]) -> Option<Self> {
        let (mut namespace, mut id, mut address, mut bundle) = (None, None, None, None);
        let mut args = args.iter();
        let action = loop {
            let arg = args.next()?.to_str()?;
            // Options have the form of Go: one dash or two, and the value behind a space; containerd uses no other.
            match arg.trim_start_matches('-') {
                "namespace" => namespace = args.next(),
                "id" => id = args.next(),
                "address" => address = args.next(),
                "bundle" => bundle = args.next(),
                "publish-binary" => drop(args.next()?),
                action if !arg.starts_with('-') && args.next().is_none() => break action,
                _ => return None,
            }
        };
        let action = match action {
            "start" if bundle.is_none() => Action::Start,
            "delete" => Action::Delete {
                bundle: bundle?.into(),
            },
            _ => return None,
        };
        Some(Self {
            namespace: namespace?.clone(),
            id: id?.clone(),
            address: address?.into(),
            action,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Call> {
        let args: Vec<_> = text.split_whitespace().map(OsString::from).collect();
        Call::parse(&args)
    }

    #[test]
    fn only_a_start_and_a_deletion_are_answered() {
        let before = "-namespace fn -address /run/c.sock -publish-binary /usr/bin/containerd -id c1";
        let of = |action| Call {
            namespace: "fn".into(),
            id: "c1".into(),
            address: "/run/c.sock".into(),
            action,
        };
        let bundle = "/run/containerd/io.containerd.runtime.v2.task/fn/c1";
        assert_eq!(
            parse(&format!("{before} -bundle {bundle} delete")),
            Some(of(Action::Delete {
                bundle: bundle.into()
            }))
        );
        assert_eq!(parse(&format!("{before} start")), Some(of(Action::Start)));
        for other in [
            "",
            "-v",
            "-info",
            "delete",
            "-id c1 delete",
            "-namespace fn -id c1 start",
            "-namespace fn -id c1 -address /c -bundle /b",
            "-namespace fn -id c1 -address /c delete",
            "-namespace fn -id c1 -address /c -bundle /b start",
            "-namespace fn -id c1 -address /c -bundle /b -new delete",
            "-namespace fn -id c1 -address /c -debug start",
            "-namespace fn -id c1 -address /c -bundle /b delete again",
            "-namespace fn -id c1 -address /c -bundle /b -delete",
            "-namespace fn -id c1 -address /c -socket /s",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
