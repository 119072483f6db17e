//! Starting containerd, and waiting until it answers.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::error::Ended;
use super::{Error, Home, Scope, SearchPath, answers, config, front, log, private, process};
use crate::Context;
use crate::cgroup::tops;

/// How long containerd may take until it answers. It usually takes 0.2 s; the rest is for a machine under load.
const READY: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(20);

/// How long a containerd that another process started may take, before it is ended and another one is started.
const ADOPT: Duration = Duration::from_secs(3);

/// The programs that a private containerd needs.
#[derive(Debug)]
pub(super) struct Programs {
    containerd: PathBuf,
    path: SearchPath,
}

impl Programs {
    /// Finds them in `PATH` and in the system administration directories.
    pub(super) fn find() -> Result<Self, Error> {
        let path = SearchPath::of_this_process();
        let find = |program: &'static str, package| {
            path.find(program).ok_or(Error::NotInstalled { program, package })
        };
        let containerd = find("containerd", "containerd")?;
        find("containerd-shim-runc-v2", "containerd")?;
        if let Err(missing) = find("runc", "runc") {
            find("crun", "crun").map_err(|_| missing)?;
        }
        Ok(Self { containerd, path })
    }
}

/// Starts the containerd of `home` and waits until it answers. The caller holds the start lock.
///
/// # Cancellation
/// If `ctx` is interrupted, a containerd that was started is ended; if the future is dropped, it is not.
pub(super) async fn launch(ctx: &Context, home: &Home, programs: &Programs) -> Result<(), Error> {
    if process::runs(&home.config())? {
        // Another process started it and died before it answered. Or it will never answer, because it is stuck or its
        // socket was removed.
        match ready(ctx, home, None, ADOPT).await {
            Err(Error::NoAnswer { .. }) => end(home).await?,
            // Not ended by this process, because other processes may use it already.
            answered => return answered,
        }
    }
    let scope = Scope::of_this_process();
    let first = start(ctx, home, programs, &scope).await;
    let (Err(error @ Error::Died { .. }), Some(scope)) = (&first, scope.without_systemd()) else {
        return first;
    };
    // systemd may be the cause. If containerd itself cannot start, it fails a second time with the same message.
    tracing::warn!(error = %crate::chain(error), "containerd did not start in a systemd scope; trying without one");
    start(ctx, home, programs, &scope).await
}

async fn start(ctx: &Context, home: &Home, programs: &Programs, scope: &Scope) -> Result<(), Error> {
    let (mut child, from) = spawn(home, programs, scope)?;
    if let Some(pid) = child.id() {
        scope.take(pid);
    }
    let answered = ready(ctx, home, Some((&mut child, from)), READY).await;
    settle(home, answered).await
}

/// Ends a containerd that did not answer.
async fn settle(home: &Home, answered: Result<(), Error>) -> Result<(), Error> {
    if answered.is_err() {
        end(home).await?;
    }
    answered
}

/// Ends the containerd of `home` if it runs, and removes what it leaves: its sockets and the runtime's empty
/// directories.
///
/// # Cancellation
/// If the future is dropped half-way, containerd may or may not end.
pub(super) async fn end(home: &Home) -> Result<(), Error> {
    process::end(&home.config()).await?;
    let socket = home.socket();
    if answers(&socket).await {
        return Err(Error::OutOfReach { socket });
    }
    for socket in [socket, home.ttrpc_socket()] {
        match fs::remove_file(&socket) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(Error::at(&socket, "remove", cause));
            }
            _ => {}
        }
    }
    remove_empty(&home.runc_root());
    if !home.is_system() {
        for top in tops() {
            remove_empty(&top.join(home.cgroup_parent().trim_start_matches('/')));
        }
    }
    Ok(())
}

/// Removes a directory that the runtime has created (its state directory or a parent of cgroups) with the directories
/// of the namespaces in it, unless containers outlived their containerd.
fn remove_empty(of_runtime: &Path) {
    let namespaces = fs::read_dir(of_runtime).into_iter().flatten().flatten();
    // A cgroup also contains files, which disappear with it.
    let namespaces = namespaces.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for dir in namespaces
        .map(|entry| entry.path())
        .chain([of_runtime.to_owned()])
    {
        // A directory in use is not empty, so removing it fails.
        if let Err(cause) = fs::remove_dir(&dir) {
            tracing::debug!(dir = %dir.display(), %cause, "kept a directory of the runtime");
        }
    }
}

fn spawn(home: &Home, programs: &Programs, scope: &Scope) -> Result<(Child, u64), Error> {
    let config = home.config();
    private::file(
        &config,
        OpenOptions::new().create(true).write(true).truncate(true),
    )?
    .write_all(config::text(home).as_bytes())
    .map_err(|cause| Error::at(&config, "write", cause))?;
    let (output, from) = log::open(&home.log())?;
    let errors = output
        .try_clone()
        .map_err(|cause| Error::at(&home.log(), "open", cause))?;
    let mut words = scope.prefix();
    words.extend(process::OPEN_UMASK.map(OsString::from));
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let child = Command::new(&program)
        .args(words)
        .arg(&programs.containerd)
        .arg("--config")
        .arg(&config)
        .env("PATH", programs.path.behind(front::install(home)).as_os_str())
        // What systemd tells this process is not meant for containerd.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A process group of its own, because Ctrl-C in the terminal must reach only the process in the foreground.
        .process_group(0)
        .spawn()
        .map_err(|cause| Error::at(Path::new(&program), "execute", cause))?;
    Ok((child, from))
}

async fn ready(
    ctx: &Context,
    home: &Home,
    mut child: Option<(&mut Child, u64)>,
    patience: Duration,
) -> Result<(), Error> {
    let socket = home.socket();
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some((child, from)) = &mut child {
            let ended = child
                .try_wait()
                .map_err(|cause| Error::at(&home.config(), "wait for containerd with", cause))?;
            if let Some(status) = ended {
                return Err(Error::Died {
                    said: log::last_line(&home.log(), *from),
                    cause: Ended {
                        status,
                        log: home.log(),
                    },
                });
            }
        }
        let waiting = Error::interrupted("containerd was starting");
        let answered = ctx.run(answers(&socket)).await.map_err(waiting)?;
        if answered {
            return Ok(());
        }
        let waiting = Error::interrupted("containerd was starting");
        ctx.run(tokio::time::sleep(AGAIN)).await.map_err(waiting)?;
    }
    Err(Error::NoAnswer {
        socket,
        after: patience,
        log: home.log(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_directory_goes_when_it_is_empty_and_stays_while_a_container_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runc");
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join("used/container")).unwrap();
        remove_empty(&root);
        assert!(!root.join("empty").exists());
        assert!(root.join("used/container").exists());
        fs::remove_dir(root.join("used/container")).unwrap();
        remove_empty(&root);
        assert!(!root.exists());
    }
}
