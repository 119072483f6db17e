#!/bin/sh
# Two containers on the default bridge network, and the host: each reaches each, a published port leads in, and nothing is
# left behind. On a private containerd that ends with this script, with a configuration directory of its own.
# FNCTR names the program; `make demo-network` builds it.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/.." && pwd)
fnctr=${FNCTR:-$here/target/release/fnctr}
[ -x "$fnctr" ] || { echo "demo-network: $fnctr is not built: make demo-network" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "demo-network: containers need root: sudo make demo-network" >&2; exit 1; }

dir=$(mktemp -d /tmp/fnctr-net.XXXXXX)
namespace=fnctr-demo-network
image=busybox:latest

say() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

fn() {
    "$fnctr" --embedded --root "$dir" --namespace "$namespace" --cni-config-dir "$dir/net.d" "$@"
}

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

finish() {
    code=$?
    trap - EXIT INT TERM
    for id in $(fn --json ps | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p'); do
        fn rm --force "$id" >/dev/null || true
    done
    fn network rm fnctr >/dev/null 2>&1 || true
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What containers put into the host's network, without counters and the chains that plugins make once for a host.
network() {
    ip -o link show | sed 's/^[0-9]*: //; s/@.*//; s/: .*//'
    iptables-save 2>/dev/null | grep -v -e '^#' -e '^:' -e '^\*' -e COMMIT -e 'CNI-HOSTPORT-' -e 'CNI-FORWARD$' -e 'CNI-ADMIN$' -e CNI-FORWARD.*CNI-ADMIN || true
}

"$here/tools/make-image.sh" --name "$image" "$dir/busybox.tar"
fn load "$dir/busybox.tar" >/dev/null
network >"$dir/before"

say 'a server on the default network, configured on first use, and a port of the host that leads to it'
show run --detach --name server --publish 18080:8080 "$image" httpd -f -p 8080 -h /etc
show network ls
show ps
server=$(fn --json inspect server | sed -n 's/.*"addresses":\[*"*\([0-9.]*\).*/\1/p' | head -n 1)
[ -n "$server" ] || server=$(fn inspect server | sed -n '/"addresses"/{n;s/[^0-9.]//g;p;}' | head -n 1)

say 'the addresses of a second container, as it sees them'
show run --network default "$image" ip addr

say 'from the second container to the first, by address'
show run --network default "$image" wget -qO- "http://$server:8080/hostname"

say 'from the host to the first, by its address and by the published port'
for at in "$server 8080" '127.0.0.1 18080'; do
    # shellcheck disable=SC2086
    set -- $at
    echo "http://$1:$2/hostname: $(busybox wget -qO- "http://$1:$2/hostname")"
done

say 'from a container to the host'
bridge=$(sed -n 's/.*"bridge": *"\(.*\)".*/\1/p' "$dir/net.d/fnctr.conflist" | grep ^fn)
gateway=$(ip -4 -o addr show "$bridge" | sed 's/.*inet \([0-9.]*\).*/\1/')
mkdir "$dir/www"
echo 'hello from the host' >"$dir/www/index.html"
busybox httpd -f -p "$gateway:18081" -h "$dir/www" &
host=$!
show run --network default "$image" sh -c "until wget -qO- http://$gateway:18081/; do sleep 0.1; done"
kill "$host"

say 'a container that shares the network of the first'
show run --network container:server "$image" sh -c 'hostname; wget -qO- http://127.0.0.1:8080/hostname'

say 'what a sandbox on this network costs, and why there is a pool'
show bench network --rounds 5

say 'nothing is left'
show rm --force server
show network rm fnctr
network >"$dir/after"
diff "$dir/before" "$dir/after" || { echo 'demo-network: the network of the host has changed' >&2; exit 1; }
echo "addresses: $(find /run/fnctr/addresses -type f 2>/dev/null | wc -l), sandboxes: $(find "$dir/sandboxes" -name '*.json' | wc -l)"
