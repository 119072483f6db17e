#!/bin/sh
# What runs in the VM: the conformance suite and the resource suite on full cgroup v2, with each runtime. Ends with a
# line for each, and with 1 if anything failed. /settings has the paths of the test binaries.
set -u

. /settings
export TMPDIR=/tmp
cd "$project" || exit 1

# Nothing is skipped for want of something: it fails.
export FNCTR_REQUIRE_REAL=1
# The machine has no registry; pulls know nothing of cgroups and are tested on the host.
export FNCTR_TEST_NO_REGISTRY=1
# An emulated CPU is some thirty times slower, and its clock is the host's.
export FNCTR_TEST_PATIENCE=10 FNCTR_TEST_CPU_SLACK=0.25 FNCTR_TEST_ROUNDS=${FNCTR_TEST_ROUNDS:-50}
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-3} RUST_BACKTRACE=0

# On a host of systemd, containers are where systemd puts them.
[ "$init" != systemd ] || export FNCTR_TEST_SYSTEMD=1

modprobe overlay
modprobe br_netfilter
modprobe loop
modprobe xfs
truncate -s 500M /tmp/xfs.img
mkfs.xfs -q /tmp/xfs.img
mkdir /tmp/xfs
mount -o loop,pquota /tmp/xfs.img /tmp/xfs || exit 1
export FNCTR_TEST_XFS=/tmp/xfs

uptime() {
    cut -d. -f1 /proc/uptime
}

verdicts='' failed=0

# NAME COMMAND...: runs it, and remembers how it ended.
stage() {
    name=$1 began=$(uptime)
    shift
    printf '\n==> vm: %s\n' "$name"
    if "$@"; then word=passed; else word=FAILED failed=1; fi
    verdicts="$verdicts
vm: $word  $(($(uptime) - began)) s  $name"
}

tools/about-host.sh
echo "runtime:    $(crun --version | head -n 1)"
echo "files:      XFS with project quotas at $FNCTR_TEST_XFS, for the quotas of writable layers"

[ "$init" = systemd ] || stage 'the freezer, kill, statistics and quotas by themselves' "$lib" cgroup:: quota::
for runtime in $runtimes; do
    # Modules of tests/real. The others (bad input, command line, crowds, crashes, syslog) know nothing of cgroups and run
    # on the host.
    # shellcheck disable=SC2086
    FNCTR_TEST_RUNTIME=$runtime stage "$runtime: $suites" "$real" $suites
    suites=$again
done
[ "$init" = systemd ] || [ "$form" = short ] || FNCTR=$fnctr stage 'what an operator sees of limits' tools/look.sh
dir=/tmp/bench
mkdir -m 700 "$dir"
[ -z "$bench" ] || { tools/make-image.sh /tmp/image.tar >/dev/null && "$fnctr" --embedded --root "$dir" load /tmp/image.tar; }
for processes in $bench; do
    stage "figures of freezing with $processes processes (emulated: only the ratios mean anything)" \
        "$fnctr" --embedded --root "$dir" bench freeze --procs "$processes" --rounds 50
done
printf '%s\n' "$verdicts"
exit $failed
