#!/bin/sh
# A host without dockerd, for a person to see: fnctr serves the docker command and docker-py on a private containerd, a function
# is run, frozen and thawed; and the same on a real Docker Engine, for its times, if Debian's packages of one can be had.
# FNCTR names the program; `make demo-docker` builds it.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/.." && pwd)
fnctr=${FNCTR:-$here/target/release/fnctr}
[ -x "$fnctr" ] || { echo "demo: $fnctr is not built: make demo-docker" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "demo: containers need root: sudo make demo-docker" >&2; exit 1; }

# The kernel refuses long paths of sockets.
dir=$(mktemp -d /tmp/fnctr-demo.XXXXXX)
engine_dir=$here/target/docker-engines/sid
server='' engine=''

finish() {
    code=$?
    trap - EXIT INT TERM
    [ -z "$engine" ] || kill "$engine" 2>/dev/null || true
    # The containers would outlive the server.
    [ -z "$server" ] || docker ps -aq 2>/dev/null | xargs -r docker rm -f >/dev/null 2>&1 || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

show() {
    printf '\033[2m$ %s\033[0m\n' "$*"
    "$@"
}

# SOCKET: waits until something answers there.
answers() {
    tries=0
    until [ -S "$1" ] && docker -H "unix://$1" version >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "demo: nothing answers on $1" >&2; exit 1; }
        sleep 0.2
    done
}

say 'the docker command, and a real engine to compare with'
if [ -x "$engine_dir/bin/dockerd" ] || "$here/tools/docker-engine.sh" fetch "$engine_dir"; then
    PATH=$engine_dir/bin:$PATH
fi
command -v docker >/dev/null 2>&1 || { echo 'demo: there is no docker command here, and it cannot be had' >&2; exit 1; }

say 'fnctr serves the Docker API; there is no dockerd'
"$fnctr" --embedded --root "$dir" --namespace fnctr-demo serve --docker-socket "$dir/docker.sock" &
server=$!
answers "$dir/docker.sock"
export DOCKER_HOST="unix://$dir/docker.sock"
show docker version --format 'client {{.Client.Version}}, server {{.Server.Version}} ({{.Server.Platform.Name}})'
"$here/tools/make-image.sh" --name busybox:latest "$dir/busybox.tar"
show docker load --input "$dir/busybox.tar"

say 'a function: input, output, exit code'
printf 'hello from a pipe' | show docker run --rm -i --network none --memory 64m busybox cat
echo
code=0
show docker run --rm --network none busybox sh -c 'echo it fails >&2; exit 7' || code=$?
echo "(exit code $code)"
[ "$code" = 7 ]

say 'one that stays, frozen and thawed'
show docker run -d --name idle --network none --init busybox sleep 1000
show docker pause idle
show docker ps --format 'table {{.Names}}\t{{.Image}}\t{{.Status}}'
show docker unpause idle
show docker stats --no-stream idle
show docker rm -f idle

if python3 -c 'import docker' 2>/dev/null; then
    say 'docker-py'
    show python3 "$here/tests/support/docker_client.py" "$dir/docker.sock"
fi

compose=$engine_dir/root/usr/libexec/docker/cli-plugins/docker-compose
if [ -x "$compose" ]; then
    say 'compose: two services, which find each other by name, one when the other is healthy'
    # The command finds it there, and nothing of the user's configuration.
    export DOCKER_CONFIG="$dir/config"
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    ln -s "$compose" "$DOCKER_CONFIG/cli-plugins/"
    shop="-f $here/fixtures/compose/shop.yaml --progress plain"
    # shellcheck disable=SC2086
    {
        show docker compose $shop up -d
        show docker compose $shop ps --format 'table {{.Service}}\t{{.Status}}'
        show docker compose $shop logs web
        show docker compose $shop up -d
        show docker compose $shop down -v
    }
    [ -z "$(docker volume ls -q)" ]
fi

say 'times'
sides="fnctr=$dir/docker.sock"
if [ -x "$engine_dir/bin/dockerd" ]; then
    "$here/tools/docker-engine.sh" run "$engine_dir" &
    engine=$!
    answers "$engine_dir/docker.sock"
    docker -H "unix://$engine_dir/docker.sock" load --quiet --input "$dir/busybox.tar"
    name=$(docker -H "unix://$engine_dir/docker.sock" version --format 'docker-{{.Server.Version}}')
    sides="$sides $name=$engine_dir/docker.sock"
else
    echo 'no real engine can be had here'
fi
# shellcheck disable=SC2086
show "$here/tools/docker_times.py" $sides

say 'nothing is left'
show docker ps -a
