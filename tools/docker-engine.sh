#!/bin/sh
# A real Docker Engine to compare with. Its packages are Debian's; they are unpacked into a directory, and nothing is installed.
#
#   tools/docker-engine.sh fetch DIR [SUITE]  downloads and unpacks the engine and the docker command of a suite: sid, which
#                                             is the default, has 28 and compose, bookworm has 20.10
#   tools/docker-engine.sh run DIR            runs the engine in the foreground, on DIR/docker.sock, until a signal comes
#
# The engine has a network namespace of its own, so that it changes no rule and no address of this host. Its name is in
# DIR/netns, for those who have what the engine is to reach.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[ $# = 2 ] || [ "$1 $#" = 'fetch 3' ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
mkdir -p "$2"
dir=$(cd "$2" && pwd)
suite=${3:-sid}

fetch() {
    command -v apt-get >/dev/null 2>&1 || { echo 'docker-engine: there is no apt-get here' >&2; exit 1; }
    init=$(command -v tini-static || command -v tini) || { echo 'docker-engine: there is no tini here' >&2; exit 1; }
    command -v runc >/dev/null 2>&1 || { echo 'docker-engine: there is no runc here' >&2; exit 1; }
    apt=$dir/apt
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/etc" "$dir/packages"
    : >"$apt/status"
    # The mirror that this host uses.
    mirror=$(sed -n -e 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*debian\/*\) .*/\2/p' -e 's/^URIs: \([^ ]*debian\/*\)$/\1/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1)
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] ${mirror:-http://deb.debian.org/debian} $suite main" >"$apt/etc/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc "$apt/etc";
Dir::Etc::sourcelist "$apt/etc/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Check-Valid-Until "false";
CONF
    export APT_CONFIG=$apt/apt.conf
    apt-get update -q >"$apt/log" 2>&1 || { tail -n 5 "$apt/log" >&2; exit 1; }
    case $suite in
    bookworm) packages='docker.io containerd' ;;
    *) packages='docker.io docker-cli docker-compose containerd' ;;
    esac
    # shellcheck disable=SC2086
    (cd "$dir/packages" && apt-get download -q $packages >>"$apt/log" 2>&1) ||
        { tail -n 5 "$apt/log" >&2; exit 1; }
    for package in "$dir"/packages/*.deb; do
        dpkg -x "$package" "$dir/root"
    done
    mkdir -p "$dir/bin"
    ln -sf "$init" "$dir/bin/docker-init"
    # dockerd last: if it is there, everything is.
    for program in docker docker-proxy containerd containerd-shim-runc-v2 dockerd; do
        # Beside the programs there are an init script and a completion of the same name.
        found=$(find "$dir/root" -type f -perm -100 -path "*bin/$program" | head -n 1)
        [ -n "$found" ] || { echo "docker-engine: the packages have no $program" >&2; exit 1; }
        ln -sf "$found" "$dir/bin/$program"
    done
    rm -rf "$apt" "$dir/packages"
    "$dir/bin/docker" --version
}

run() {
    [ -x "$dir/bin/dockerd" ] || { echo "docker-engine: nothing is in $dir: tools/docker-engine.sh fetch $dir" >&2; exit 1; }
    [ "$(id -u)" = 0 ] || { echo 'docker-engine: it needs root' >&2; exit 1; }
    if [ -s "$dir/docker.pid" ] && kill -0 "$(cat "$dir/docker.pid")" 2>/dev/null; then
        echo "docker-engine: process $(cat "$dir/docker.pid") is an engine of $dir already; end it first" >&2
        exit 1
    fi
    netns=fnctr-engine-$$
    ip netns add "$netns"
    echo "$netns" >"$dir/netns"
    trap 'ip netns del "$netns" 2>/dev/null || true' EXIT
    ip -n "$netns" link set lo up
    # Not `ip netns exec`, which hides the cgroups.
    PATH=$dir/bin:$PATH nsenter "--net=/run/netns/$netns" dockerd -H "unix://$dir/docker.sock" --data-root "$dir/data" \
        --exec-root "$dir/exec" -p "$dir/docker.pid" --userland-proxy=false >"$dir/log" 2>&1 &
    engine=$!
    trap 'kill "$engine" 2>/dev/null || true' HUP INT TERM
    # A signal ends the first wait, and the engine then ends what it runs.
    wait "$engine" || wait "$engine" || true
}

case $1 in
fetch) fetch ;;
run) run ;;
*) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
esac
