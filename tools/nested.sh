#!/bin/sh
# Runs the tests on real containerd inside a privileged container, as CI does it in a container: own cgroup, mount, pid,
# ipc, uts and network namespaces, every capability and device that this process has. The container is made with runc alone;
# its root is the host's under an overlay, so that nothing it writes stays.
#
#   tools/nested.sh FNCTR REAL [TEST...]    the built command, the built test binary `real`, and the tests [all]
#
# On a host with v1 cgroups the container has them alone, as everywhere; V2=1 mounts the v2 tree beside them.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/.." && pwd)

# What runs inside, as a child of the container's init.
if [ "${1:-}" = --inside ]; then
    fnctr=$2 real=$3
    shift 3
    mkdir -p /run/t /run/e
    ip link set lo up 2>/dev/null || busybox ip link set lo up
    # Where the host is hybrid, runc mounts the v1 hierarchies alone.
    if [ -e /sys/fs/cgroup/memory ] && [ -n "${V2:-}" ]; then
        mkdir -p /sys/fs/cgroup/unified
        mount -t cgroup2 none /sys/fs/cgroup/unified
    fi
    "$here/tools/about-host.sh"
    echo "own cgroup: $(tr '\n' ' ' </proc/self/cgroup)"
    # Starts a private containerd once, which makes the controllers of a unified tree usable in here.
    "$fnctr" --embedded --root /run/e ps
    [ ! -e /sys/fs/cgroup/cgroup.controllers ] || echo "controllers: $(cat /sys/fs/cgroup/cgroup.subtree_control)"
    "$fnctr" --embedded --root /run/e doctor | grep -E ' (nested|cgroups|cgroups by|controllers|freezer) ' || true
    export TMPDIR=/run/t FNCTR_REQUIRE_REAL=1
    exec "$real" "$@"
fi

[ $# -ge 2 ] || { sed -n 's/^# \{0,1\}//;2,8p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "nested: containers need root" >&2; exit 1; }
fnctr=$(realpath "$1") real=$(realpath "$2")
shift 2

id=fnctr-nested-$$
dir=$(mktemp -d "${TMPDIR:-/tmp}/$id.XXXXXX")

# Removes the container's cgroups in every hierarchy, innermost first.
remove_cgroups() {
    while read -r _ _ _ _ point _; do
        [ ! -d "$point/$id" ] || find "$point/$id" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done </proc/self/mountinfo
}

finish() {
    code=$?
    trap - EXIT INT TERM
    runc --root "$dir/runc" delete --force "$id" 2>/dev/null || true
    remove_cgroups
    for mount in "$dir/root" "$dir/layer"; do
        mountpoint -q "$mount" && umount "$mount"
    done
    rm -rf --one-file-system "$dir"
    left=$(find /sys/fs/cgroup -type d -name "$id" 2>/dev/null; grep -F "$id" /proc/self/mountinfo || true)
    if [ -n "$left" ]; then
        echo "nested: left behind: $left" >&2
        exit 1
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$dir/layer" "$dir/root"
mount -t tmpfs "$id" "$dir/layer"
mkdir "$dir/layer/upper" "$dir/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$id" "$dir/root"
# The tree that is tested may be on another file system than the root, which an overlay leaves out.
binds=''
for path in "$here" "$(dirname "$fnctr")" "$real"; do
    binds="$binds{\"destination\":\"$path\",\"type\":\"bind\",\"source\":\"$path\",\"options\":[\"rbind\",\"ro\"]},"
done

# Every capability that this process has, by the numbers of capability.h.
names='CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT
SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
effective=$((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)))
caps='' bit=0
for name in $names; do
    [ $((effective >> bit & 1)) = 0 ] || caps="$caps${caps:+,}\"CAP_$name\""
    bit=$((bit + 1))
done

args="\"$here/tools/nested.sh\",\"--inside\",\"$fnctr\",\"$real\""
for arg in "$@"; do
    args="$args,\"$arg\""
done
tini=$(command -v tini-static || command -v tini)
cat >"$dir/config.json" <<JSON
{
  "ociVersion": "1.0.2",
  "process": {
    "user": {"uid": 0, "gid": 0}, "cwd": "$here",
    "args": ["$tini", "--", "/bin/sh", $args],
    "env": ["PATH=$PATH", "HOME=/root", "TERM=dumb", "V2=${V2:-}", "RUST_TEST_THREADS=${RUST_TEST_THREADS:-2}", "FNCTR_TEST_CONTAINERD_DIR=${FNCTR_TEST_CONTAINERD_DIR:-}"],
    "capabilities": {"bounding": [$caps], "effective": [$caps], "permitted": [$caps]}
  },
  "root": {"path": "$dir/root"},
  "hostname": "nested",
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]},
    $binds
    {"destination": "/run", "type": "tmpfs", "source": "run", "options": ["nosuid", "mode=755"]}
  ],
  "linux": {
    "cgroupsPath": "/$id",
    "resources": {"devices": [{"allow": true, "access": "rwm"}]},
    "namespaces": [
      {"type": "cgroup"}, {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}
    ]
  }
}
JSON
runc --root "$dir/runc" run --bundle "$dir" "$id"
