//! The self-describing parts of containerd's messages: a type URL and its bytes.
//!
//! containerd's convention (its `typeurl` package): a JSON type has a URL of its own and JSON bytes; a protobuf message
//! has its full name, without the `type.googleapis.com/` prefix that other programs write. Both forms of the name are
//! accepted.

use std::time::SystemTime;

use prost::Message;
use prost_types::{Any, Timestamp};

const SPEC_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";

/// The options of a runc-compatible shim about the runtime behind it. `None` leaves the shim's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RuntimeOptions {
    /// The runtime's executable: a name to look up or a path.
    pub(crate) binary_name: Option<String>,
    /// Where the runtime keeps its state.
    pub(crate) root: Option<String>,
    /// The runtime asks systemd for cgroups, and the spec's cgroup path is in systemd's notation.
    pub(crate) systemd_cgroup: bool,
    /// The runtime does not use pivot_root: for a root file system in the initial ramdisk.
    pub(crate) no_pivot_root: bool,
    /// The container shares the session keyring.
    pub(crate) no_new_keyring: bool,
    /// The cgroup that the shim itself joins.
    pub(crate) shim_cgroup: Option<String>,
}

/// `containerd.runc.v1.Options` as containerd 1.6 to 2.x define it; field 8 is reserved there.
#[derive(Clone, PartialEq, Message)]
struct RuncOptions {
    #[prost(bool, tag = "1")]
    no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    no_new_keyring: bool,
    #[prost(string, tag = "3")]
    shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    io_uid: u32,
    #[prost(uint32, tag = "5")]
    io_gid: u32,
    #[prost(string, tag = "6")]
    binary_name: String,
    #[prost(string, tag = "7")]
    root: String,
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn pack_options(options: &RuntimeOptions) -> Any {
    let options = options.clone();
    let message = RuncOptions {
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        shim_cgroup: options.shim_cgroup.unwrap_or_default(),
        io_uid: 0,
        io_gid: 0,
        binary_name: options.binary_name.unwrap_or_default(),
        root: options.root.unwrap_or_default(),
        systemd_cgroup: options.systemd_cgroup,
    };
    Any {
        type_url: RUNC_OPTIONS.to_owned(),
        value: message.encode_to_vec(),
    }
}

/// Decodes the options; `None` for the options of another runtime.
pub(super) fn unpack_options(any: &Any) -> Option<RuntimeOptions> {
    let message: RuncOptions = unpack(any, RUNC_OPTIONS)?.ok()?;
    Some(RuntimeOptions {
        binary_name: some(message.binary_name),
        root: some(message.root),
        systemd_cgroup: message.systemd_cgroup,
        no_pivot_root: message.no_pivot_root,
        no_new_keyring: message.no_new_keyring,
        shim_cgroup: some(message.shim_cgroup),
    })
}

/// Decodes the message with that full name in `any`; `None` if `any` contains another message.
pub(super) fn unpack<T: Message + Default>(any: &Any, name: &str) -> Option<Result<T, prost::DecodeError>> {
    (any.type_url.rsplit('/').next() == Some(name)).then(|| T::decode(any.value.as_slice()))
}

pub(super) fn pack_spec(json: &[u8]) -> Any {
    Any {
        type_url: SPEC_URL.to_owned(),
        value: json.to_owned(),
    }
}

/// Converts a moment. Go's zero time, which means "never", becomes `None`.
pub(super) fn moment(at: Option<Timestamp>) -> Option<SystemTime> {
    let at = at.filter(|at| at.seconds > 0)?;
    SystemTime::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_options_survive_the_trip() {
        let options = RuntimeOptions {
            binary_name: Some("/usr/bin/crun".into()),
            systemd_cgroup: true,
            ..RuntimeOptions::default()
        };
        let any = pack_options(&options);
        assert_eq!(any.type_url, "containerd.runc.v1.Options");
        // Field 6, length 13; field 9, true: what Go writes for the same options.
        assert_eq!(
            any.value,
            [b"\x32\x0d/usr/bin/crun".as_slice(), b"\x48\x01"].concat()
        );
        assert_eq!(unpack_options(&any), Some(options));
    }

    #[test]
    fn the_options_of_another_runtime_are_not_ours() {
        let any = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: vec![1],
        };
        assert_eq!(unpack_options(&any), None);
    }

    #[test]
    fn go_says_never_with_its_zero_time() {
        let zero = Timestamp {
            seconds: -62_135_596_800,
            nanos: 0,
        };
        assert_eq!(moment(Some(zero)), None);
        assert!(moment(Some(Timestamp { seconds: 1, nanos: 2 })).is_some());
    }
}
