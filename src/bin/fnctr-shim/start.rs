//! Starts the server of a container's shim, as the `start` of the shim's program does (StartShim, or Start of the manager, in
//! containerd's runc shim): its socket, the server's process with the socket as descriptor 3, and the server's place in the
//! order in which the kernel kills if memory is short.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};

use prost::Message as _;
use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};

use crate::learned::Form;
use crate::real::{self, SHIM};

/// Where shims have their sockets (DefaultStateDir in containerd's defaults).
const SOCKETS: &str = "/run/containerd/s";
/// The descriptor on which the server expects its socket.
const SOCKET_FD: i32 = 3;
/// The annotations that let containers share a server.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// The kernel's highest rank for being killed.
const MAX_OOM_SCORE: i32 = 1000;
/// The most that containerd gives to its shim, in bytes.
const MAX_INPUT: u64 = 10 << 20;

/// A start that containerd asks for.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) namespace: OsString,
    pub(crate) id: OsString,
    /// containerd's socket.
    pub(crate) address: PathBuf,
}

impl Start {
    /// Starts the server and prints its address, or lets the real shim do so.
    pub(crate) fn run(&self, args: &[OsString]) -> io::Result<ExitCode> {
        let mut input = Vec::new();
        io::stdin().lock().take(MAX_INPUT).read_to_end(&mut input)?;
        let shim = SHIM.find()?;
        if !self.is_plain(&input) {
            return Err(SHIM.become_it(args, Some(&input)));
        }
        let Some(form) = Form::noted(&shim) else {
            return self.learn(&shim, args, &input);
        };
        match self.listen() {
            Some(listener) => {
                let started = self.announce(form).and_then(|()| self.serve(&shim, listener));
                let server = started.inspect_err(|_| drop(fs::remove_file(self.socket())))?;
                self.introduce(server, form).map(|()| ExitCode::SUCCESS)
            }
            None => Err(SHIM.become_it(args, Some(&input))),
        }
    }

    /// Whether the container has a server of its own, which needs nothing that only the real shim does.
    fn is_plain(&self, input: &[u8]) -> bool {
        let ids = [&self.namespace, &self.id];
        // The address is written into JSON, and is part of a path.
        let is_simple = ids
            .iter()
            .all(|id| !id.is_empty() && !id.as_encoded_bytes().contains(&b'/'));
        is_simple
            && env::var_os("SCHED_CORE").is_none()
            && has_simple_options(input)
            && is_alone(Path::new("config.json"))
    }

    /// The server's socket (SocketAddress in containerd's shim).
    fn socket(&self) -> PathBuf {
        let name = self.address.join(&self.namespace).join(&self.id);
        let digest = Sha256::digest(name.as_os_str().as_encoded_bytes());
        Path::new(SOCKETS).join(format!("{digest:x}"))
    }

    fn shown_address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Has the real shim start the server, and learns from its answer.
    fn learn(&self, shim: &Path, args: &[OsString], input: &[u8]) -> io::Result<ExitCode> {
        let mut command = SHIM.command(shim, args);
        let done = command
            .stdin(real::again(input)?)
            .stderr(Stdio::inherit())
            .output()?;
        if done.status.success()
            && let Some(form) = Form::of(&done.stdout, &self.shown_address(), Path::new("address").exists())
        {
            form.note(shim);
        }
        io::stdout().write_all(&done.stdout)?;
        let code = done.status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// The socket, as the descriptor that the server expects. `None` if there is one already, or cannot be one.
    fn listen(&self) -> Option<UnixListener> {
        let socket = self.socket();
        let listener = UnixListener::bind(&socket).ok()?;
        // The lowest that is free, because nothing else is open.
        let is_ready = listener.as_raw_fd() == SOCKET_FD
            && fs::set_permissions(&socket, Permissions::from_mode(0o600)).is_ok()
            && fcntl_setfd(&listener, FdFlags::empty()).is_ok();
        if !is_ready {
            drop(fs::remove_file(socket));
        }
        is_ready.then_some(listener)
    }

    fn serve(&self, shim: &Path, listener: UnixListener) -> io::Result<Child> {
        let mut args: Vec<OsString> = vec!["-namespace".into(), self.namespace.clone()];
        args.extend([
            "-id".into(),
            self.id.clone(),
            "-address".into(),
            self.address.clone().into(),
        ]);
        let mut name = OsString::from("containerd-shim-");
        name.push(&self.id);
        let mut command = SHIM.command(shim, &args);
        command.env("GOMAXPROCS", "4").env("OTEL_SERVICE_NAME", name);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.process_group(0).spawn();
        drop(listener);
        server.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot execute {}: {error}", shim.display()),
            )
        })
    }

    /// Writes the address where the server finds it when it starts: it removes its socket at its end.
    fn announce(&self, form: Form) -> io::Result<()> {
        if form == Form::Plain {
            let part = Path::new(".address");
            fs::write(part, self.shown_address())?;
            fs::rename(part, "address")?;
        }
        Ok(())
    }

    /// Tells containerd where the server is. If that fails, there is none.
    fn introduce(&self, mut server: Child, form: Form) -> io::Result<()> {
        let address = self.shown_address();
        let tell = || {
            rank(server.id())?;
            io::stdout().write_all(form.answer(&address).as_bytes())
        };
        tell().inspect_err(|_| {
            drop(server.kill());
            drop(fs::remove_file(self.socket()));
        })
    }
}

/// Ranks the server just behind containerd for being killed (AdjustOOMScore in containerd's shim).
fn rank(server: u32) -> io::Result<()> {
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent_id()))?;
    let score: i32 = score.trim().parse().map_err(io::Error::other)?;
    fs::write(
        format!("/proc/{server}/oom_score_adj"),
        (score + 1).min(MAX_OOM_SCORE).to_string(),
    )
}

/// Whether containerd's options (a message `google.protobuf.Any` with `containerd.runc.v1.Options`) put the server into no
/// cgroup of its own.
fn has_simple_options(input: &[u8]) -> bool {
    const TYPE: &str = "containerd.runc.v1.Options";
    const SHIM_CGROUP: u32 = 3;

    let Ok(options) = prost_types::Any::decode(input) else {
        return false;
    };
    if options.type_url.is_empty() && options.value.is_empty() {
        return true;
    }
    let mut value = options.value.as_slice();
    let mut has_cgroup = options.type_url != TYPE;
    while !value.is_empty() && !has_cgroup {
        let Ok((field, wire)) = prost::encoding::decode_key(&mut value) else {
            return false;
        };
        has_cgroup = field == SHIM_CGROUP
            || prost::encoding::skip_field(
                wire,
                field,
                &mut value,
                prost::encoding::DecodeContext::default(),
            )
            .is_err();
    }
    !has_cgroup
}

/// Whether the container with that spec shares no server with others.
fn is_alone(spec: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Spec {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
    }
    let spec = fs::read(spec).ok();
    let spec: Option<Spec> = spec.and_then(|spec| serde_json::from_slice(&spec).ok());
    spec.is_some_and(|spec| !GROUPS.iter().any(|group| spec.annotations.contains_key(*group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_that_containerd_expects() {
        let start = Start {
            namespace: "kk".into(),
            id: "fn-061ab893dda0".into(),
            address: "/tmp/k/c.sock".into(),
        };
        // From a containerd 1.6 that listens there.
        let digest = "b1dad7de7bc19c71c319877b1b1d7d90a350f73bbe09d8037eda77f9eb8b52b8";
        assert_eq!(
            start.shown_address(),
            format!("unix:///run/containerd/s/{digest}")
        );
    }

    #[test]
    fn options_that_move_the_server_are_the_real_shims() {
        let any = |type_url: &str, value: Vec<u8>| {
            prost_types::Any {
                type_url: type_url.into(),
                value,
            }
            .encode_to_vec()
        };
        let text = |field, text: &str| {
            let mut value = Vec::new();
            prost::encoding::string::encode(field, &text.to_owned(), &mut value);
            value
        };
        let runc = "containerd.runc.v1.Options";
        let both = [text(7, "/run/runc"), text(3, "/shims")].concat();
        for (input, is_simple) in [
            (Vec::new(), true),
            (any(runc, Vec::new()), true),
            (any(runc, text(7, "/run/runc")), true),
            (any(runc, text(3, "/shims")), false),
            (any(runc, both), false),
            (any(runc, vec![0xff]), false),
            (any("containerd.other.v1.Options", Vec::new()), false),
            (vec![0xff, 0xff], false),
        ] {
            assert_eq!(has_simple_options(&input), is_simple, "{input:?}");
        }
    }

    #[test]
    fn a_container_of_a_group_is_not_alone() {
        let dir = tempfile::tempdir().unwrap();
        let spec = dir.path().join("config.json");
        assert!(!is_alone(&spec), "there is no spec");
        for (text, expected) in [
            (r#"{"ociVersion":"1.0.2"}"#, true),
            (r#"{"annotations":{"a":"b"}}"#, true),
            (r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"b"}}"#, false),
            (r#"{"annotations":{"io.containerd.runc.v2.group":""}}"#, false),
            (r#"{"annotations":"#, false),
        ] {
            fs::write(&spec, text).unwrap();
            assert_eq!(is_alone(&spec), expected, "{text}");
        }
    }
}
