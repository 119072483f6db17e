//! The socket that Docker clients connect to.
//!
//! It is made under another name and renamed, so that it is never there with a mode or a group that it should not have,
//! and takes the place of the socket of a server that was killed. A socket of systemd's is taken as it is
//! (`LISTEN_FDS`, sd_listen_fds(3)).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::unistd::{Gid, Group, chown};
use tokio::net::UnixListener;

/// What stands for a socket that systemd has made and passes to this process.
pub(crate) const INHERITED: &str = "fd://";

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The mode of the socket.
    pub(crate) mode: u32,
    /// Its group; `None` leaves that of the process.
    pub(crate) group: Option<u32>,
}

impl Access {
    /// Access for the owner and the members of a group, given by name or number; for the owner alone if there is none.
    ///
    /// # Errors
    /// [`SocketError::NoGroup`].
    pub(crate) fn of_group(group: Option<&str>) -> Result<Self, SocketError> {
        let Some(named) = group else {
            return Ok(Self {
                mode: 0o600,
                group: None,
            });
        };
        let none = || SocketError::NoGroup {
            group: named.to_owned(),
        };
        let number = match named.parse() {
            Ok(number) => number,
            Err(_) => {
                let group = Group::from_name(named).ok().flatten();
                group.ok_or_else(none)?.gid.as_raw()
            }
        };
        Ok(Self {
            mode: 0o660,
            group: Some(number),
        })
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The group does not exist.
    #[error(
        "--docker-group: there is no group {group:?} on this host; name another one, or add it with `groupadd`"
    )]
    NoGroup {
        /// The name.
        group: String,
    },
    /// Another process listens there.
    #[error("--docker-socket: another process listens on {}: a Docker daemon, or another fnctr", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket has its name.
    #[error("--docker-socket: {} exists and is not a socket", path.display())]
    NoSocket {
        /// What is there.
        path: PathBuf,
    },
    /// systemd has passed none.
    #[error(
        "--docker-socket: {INHERITED} stands for a socket that systemd passes, and none was passed; start fnctr from its \
         socket unit, or give a path"
    )]
    NotInherited,
    /// What systemd has passed is of another kind.
    #[error("--docker-socket: {INHERITED}: what systemd has passed is not a listening unix stream socket")]
    Unfit {
        /// Why.
        source: io::Error,
    },
    /// The owner of a socket of systemd's is set in its unit.
    #[error(
        "--docker-group: the socket of {INHERITED} has the group that its unit sets (SocketGroup); leave the option out"
    )]
    NotOurs,
    /// It cannot be made.
    #[error("--docker-socket: cannot make {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens on a socket at this path.
///
/// # Errors
/// [`SocketError`]; nothing that was there is changed then.
pub(crate) fn listen(path: &Path, access: Access) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(SocketError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => {
                return Err(SocketError::Taken {
                    path: path.to_owned(),
                });
            }
        },
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failed)?;
        if let Some(group) = access.group {
            let_in(dir, group).map_err(failed)?;
        }
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let made = || {
        drop(std::fs::remove_file(&new));
        let listener = std::os::unix::net::UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, PermissionsExt::from_mode(access.mode & 0o600))?;
        chown(&new, None, access.group.map(Gid::from_raw))?;
        std::fs::set_permissions(&new, PermissionsExt::from_mode(access.mode))?;
        std::fs::rename(&new, path)?;
        listening(listener.into())
    };
    made().map_err(|error| {
        drop(std::fs::remove_file(&new));
        failed(error)
    })
}

/// Lets a group pass through a directory that its owner has kept to himself, such as the run directory. What is in it has
/// modes of its own.
fn let_in(dir: &Path, group: u32) -> io::Result<()> {
    let there = dir.metadata()?;
    let is_private = there.mode() & 0o077 == 0 && there.uid() == nix::unistd::geteuid().as_raw();
    if is_private {
        chown(dir, None, Some(Gid::from_raw(group)))?;
        std::fs::set_permissions(dir, PermissionsExt::from_mode(there.mode() & 0o700 | 0o010))?;
    }
    Ok(())
}

/// The first socket that systemd has passed (sd_listen_fds(3)). Called before any program is started, which would inherit
/// it: systemd does not set close-on-exec.
///
/// # Errors
/// [`SocketError::NotInherited`], [`SocketError::Unfit`].
pub(crate) fn inherited() -> Result<UnixListener, SocketError> {
    let unfit = |source| SocketError::Unfit { source };
    let passed = ListenFd::from_env().take_unix_listener(0).map_err(unfit)?;
    let socket = passed.ok_or(SocketError::NotInherited)?;
    listening(socket.into()).map_err(unfit)
}

fn listening(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Access = Access {
        mode: 0o600,
        group: None,
    };

    #[tokio::test]
    async fn it_has_its_mode_and_takes_the_place_of_one_that_nobody_listens_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/docker.sock");
        let first = listen(&path, OWNER).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, OWNER), Err(SocketError::Taken { .. })));
        drop(first);
        let group = Access {
            mode: 0o660,
            group: Some(nix::unistd::getgid().as_raw()),
        };
        let _second = listen(&path, group).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o660);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_group_can_reach_it_through_a_directory_of_root_s() {
        use std::os::unix::fs::DirBuilderExt as _;

        let dir = tempfile::tempdir().unwrap();
        let (private, open) = (dir.path().join("private"), dir.path().join("open"));
        for (dir, mode) in [(&private, 0o700), (&open, 0o755)] {
            std::fs::DirBuilder::new().mode(mode).create(dir).unwrap();
        }
        let own = nix::unistd::getgid().as_raw();
        let group = Access {
            mode: 0o660,
            group: Some(own),
        };
        for (dir, mode) in [(&private, 0o710), (&open, 0o755)] {
            let _listener = listen(&dir.join("docker.sock"), group).unwrap();
            assert_eq!(dir.metadata().unwrap().mode() & 0o777, mode, "{dir:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path, OWNER), Err(SocketError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_group_is_named_or_numbered_and_one_that_does_not_exist_is_refused_by_name() {
        assert_eq!(Access::of_group(Some("7")).unwrap().group, Some(7));
        assert_eq!(Access::of_group(Some("root")).unwrap().group, Some(0));
        assert_eq!(Access::of_group(None).unwrap().mode, 0o600);
        let error = Access::of_group(Some("no-such-group")).unwrap_err().to_string();
        assert!(
            error.contains("no-such-group") && error.contains("--docker-group"),
            "{error}"
        );
    }
}
