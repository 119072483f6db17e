#!/bin/sh
# The life of a function for a person to see, on a private containerd that ends with this script:
# limits, streamed output, freezing while it runs, an out-of-memory kill, the result with its phases, nothing left behind.
# FNCTR names the program; `make demo` builds it.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/.." && pwd)
fnctr=${FNCTR:-$here/target/release/fnctr}
[ -x "$fnctr" ] || { echo "demo: $fnctr is not built: make demo" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "demo: containers need root: sudo make demo" >&2; exit 1; }

# In the project's run directory, unless the kernel would refuse a socket path that long.
dir=$here/run/demo
made=''
if [ ${#dir} -gt 60 ]; then
    made=$(mktemp -d /tmp/fnctr-demo.XXXXXX)
    dir=$made
fi
mkdir -p "$dir/uds"
chown 1000:1000 "$dir/uds"
namespace=fnctr-demo
image=busybox:latest
background=''

finish() {
    code=$?
    trap - EXIT INT TERM
    [ -z "$background" ] || kill "$background" 2>/dev/null || true
    wait
    [ -z "$made" ] || rm -rf "$made"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

say() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

fn() {
    "$fnctr" --embedded --root "$dir" --namespace "$namespace" "$@"
}

# The same, with the command shown first.
show() {
    printf '\033[2m$ fnctr'
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\033[0m\n'
    fn "$@"
}

# EXPECTED COMMAND...: fails unless the command ends with this code.
ends_with() {
    expected=$1
    shift
    code=0
    "$@" || code=$?
    if [ "$code" != "$expected" ]; then
        echo "demo: expected exit code $expected, got $code" >&2
        exit 1
    fi
    echo "(exit code $code)"
}

say 'the host'
"$here/tools/about-host.sh"

say 'an image, built from busybox-static'
"$here/tools/make-image.sh" --name "$image" "$dir/busybox.tar"
show load "$dir/busybox.tar"
show images

say 'a function that looks at its own limits'
show --json run --memory 64m --cpus 0.5 --pids 50 --open-files 256 --tmpfs-size 16m --read-only \
    --uds "$dir/uds:/run/fn" --timeout 30s --env GREETING=hello "$image" sh -c '
    echo "$GREETING from $(id -un) under $(cat /proc/1/comm) as process 1"
    echo "open files   $(ulimit -n)"
    echo "root         $(touch /x 2>&1)"
    echo "/tmp         $(df -m /tmp | tail -n 1 | tr -s " " | cut -d" " -f2) MB; 20 MB: $(dd if=/dev/zero of=/tmp/x bs=1M count=20 2>&1 | head -n 1)"
    rm -f /tmp/x
    echo "processes    $( (for i in $(seq 60); do sleep 1 & done) 2>&1 | tail -n 1)"
    sleep 1.2
    echo "CPU, a busy loop:"
    time sh -c "i=0; while [ \$i -lt 400000 ]; do i=\$((i+1)); done" 2>&1
    echo "written to the socket directory" >/run/fn/proof
    for i in 1 2 3; do echo "streamed line $i"; sleep 0.2; done'
echo "on the host, the socket directory has: $(cat "$dir/uds/proof")"

say 'a function that wants more memory than it may have'
ends_with 137 show --json run --memory 32m "$image" dd if=/dev/zero of=/dev/null bs=100M count=1

say 'a function that takes too long'
ends_with 124 show --json run --timeout 1s "$image" sleep 60

say 'a function, frozen and thawed while it counts'
fn run "$image" sh -c 'i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done' >"$dir/count" &
background=$!
id=''
tries=0
while [ -z "$id" ] || [ ! -s "$dir/count" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || { echo "demo: the function does not start" >&2; exit 1; }
    sleep 0.05
    id=$(fn --json ps | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p' | head -n 1)
done
show ps
counted() {
    tail -n 1 "$dir/count"
}
show freeze "$id"
before=$(counted)
sleep 0.5
after=$(counted)
echo "half a second later it has counted from $before to $after"
[ "$before" = "$after" ] || { echo "demo: a frozen function went on" >&2; exit 1; }
show thaw "$id"
sleep 0.5
echo "half a second after the thaw it has counted to $(counted)"
[ "$(counted)" -gt "$after" ] || { echo "demo: a thawed function did not go on" >&2; exit 1; }
show inspect "$id" | sed -n '/"resources"/,/seccomp/p' | sed '/seccomp/d'
show kill "$id"
wait "$background" || echo "(exit code $?)"
background=''

say 'freezing, measured: through fnctr, the bare kernel write, and the RPC'
show --json bench freeze --rounds 100

say 'nothing is left'
show ps
left=''
# KIND THINGS: remembers what is still there.
none() {
    echo "$1: ${2:-none}"
    [ -z "$2" ] || left="$left $1"
}
# The processes whose command line has this text, as `pid command`.
processes() {
    for cmdline in /proc/[0-9]*/cmdline; do
        # A process may end before it is looked at.
        { text=$(tr '\0' ' ' <"$cmdline") || continue; } 2>/dev/null
        case $text in
        *containerd*"$1"*) echo "$text" ;;
        esac
    done
}
none 'containers' "$(fn --json ps | grep -o '"id": *"[^"]*"' || true)"
none 'containerd and shims' "$(processes "$dir/")"
none 'mounts' "$(cut -d' ' -f5 /proc/self/mountinfo | grep -F "$dir/" || true)"
none 'cgroups' "$(find /sys/fs/cgroup -mindepth 2 -type d \( -name "$namespace" -o -path "*/$namespace/*" -o -name "$id" -o -name "*-$id.scope" \) 2>/dev/null || true)"
none 'sockets' "$(find "$dir" -type s 2>/dev/null || true)"
[ -z "$left" ] || { echo "demo: left behind:$left" >&2; exit 1; }
