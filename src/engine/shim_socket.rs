//! The socket of a shim, which containerd leaves behind if the shim is killed.
//!
//! A shim that ends by itself removes its socket. The one that containerd starts to clean up after a shim that was
//! killed does not, and only a later container of the same id would.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Deps;
use crate::ContainerId;

/// Where shims have their sockets, whatever containerd's own directories are (DefaultStateDir in containerd's defaults).
const DIR: &str = "/run/containerd/s";

impl Deps {
    /// Removes the socket of a container's shim if no process listens on it. Without a socket it costs one system call.
    pub(super) fn remove_dead_shim_socket(&self, id: &ContainerId) {
        let path = path(&self.config.address, self.config.namespace.as_str(), id);
        if is_dead(&path) && std::fs::remove_file(&path).is_ok() {
            tracing::debug!(%id, path = %path.display(), "removed the socket of a shim that was killed");
        }
    }
}

/// The socket of a container's shim (SocketAddress in containerd's runtime/v2/shim). `address` is containerd's own socket
/// as containerd's configuration has it.
fn path(address: &Path, namespace: &str, id: &ContainerId) -> PathBuf {
    let name = address.join(namespace).join(id.as_str());
    let digest = Sha256::digest(name.as_os_str().as_encoded_bytes());
    Path::new(DIR).join(format!("{digest:x}"))
}

/// Whether a socket exists that refuses every connection.
fn is_dead(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_path_is_the_one_that_containerd_chooses() {
        let id = ContainerId::new("fn-061ab893dda0").unwrap();
        assert_eq!(
            path(Path::new("/tmp/k/c.sock"), "kk", &id),
            // From a containerd 1.6 that listens there.
            Path::new(DIR).join("b1dad7de7bc19c71c319877b1b1d7d90a350f73bbe09d8037eda77f9eb8b52b8")
        );
    }

    #[test]
    fn only_a_socket_without_a_listener_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(!is_dead(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!is_dead(&path));
        drop(listener);
        assert!(is_dead(&path));
    }
}
