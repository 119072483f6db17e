#!/bin/sh
# Prints what an operator sees of limits, for a pair of eyes: the statistics of a container that has used up its CPUs and
# lost a process to its memory limit, and the report of one that memory ended. Fails if a kill is not told as what it was.
# FNCTR names the program; `make test-vm` runs this on full cgroup v2. Arguments go to fnctr, as in --runtime crun.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")/.." && pwd)
fnctr=${FNCTR:-$here/target/debug/fnctr}
dir=$(mktemp -d /tmp/fnctr-look.XXXXXX)
options=$*

fn() {
    # shellcheck disable=SC2086
    "$fnctr" --embedded --root "$dir" $options "$@"
}

finish() {
    fn rm --force busy >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# WORD FILE
has() {
    grep -q -- "$1" "$2" || { echo "look: this does not say $1" >&2; exit 1; }
}

"$here/tools/make-image.sh" "$dir/image.tar" >/dev/null
fn load "$dir/image.tar" >/dev/null
# One process is killed for wanting 100 MB of 32, then another takes all the CPU there is.
fn run --detach --name busy --memory 32m --cpus 0.25 --pids 50 busybox \
    sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1; while :; do :; done' >/dev/null
tries=0
until fn --json stats --once | tee "$dir/stats" | grep -q '"oom_kills":1,'; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { cat "$dir/stats" >&2; echo 'look: the kill was not counted' >&2; exit 1; }
    sleep 1
done
sleep 3
fn stats --once
fn --json stats --once
code=0
fn run --memory 32m busybox dd if=/dev/zero of=/dev/null bs=100M count=1 2>"$dir/report" || code=$?
cat "$dir/report"
echo "exit code $code"
has "own limit of 32m" "$dir/report"
fn --json run --memory 32m busybox dd if=/dev/zero of=/dev/null bs=100M count=1 >"$dir/report" || true
cat "$dir/report"
has '"exit_code":137' "$dir/report"
has '"oom":true' "$dir/report"
