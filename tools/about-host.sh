#!/bin/sh
# Says in a few lines what the tests or the demo ran on: their figures and skips mean nothing without it.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

v1='' v2='' controllers=''
while read -r _ _ _ _ point rest; do
    case ${rest#*- } in
    'cgroup2 '*)
        v2=$point
        controllers=$(cat "$point/cgroup.controllers")
        ;;
    'cgroup '*) v1="$v1 ${point##*/}" ;;
    esac
done </proc/self/mountinfo
case ${v1:+1}${v2:+2} in
12) layout="hybrid; v1:$v1; v2 at $v2: ${controllers:-no controllers}" ;;
1) layout="v1:$v1" ;;
2) layout="v2 at $v2: $controllers" ;;
*) layout='none mounted' ;;
esac

# The first line that a program says about its version.
version() {
    said=$("$@" 2>/dev/null | head -n 1) || true
    echo "${said:-none}"
}

echo "host:       $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null), kernel $(uname -r), $(nproc) CPUs, uid $(id -u)"
echo "cgroups:    $layout"
echo "containerd: $(version containerd --version)"
echo "runtime:    $(version runc --version)"
echo "data on:    $(df -PT "${TMPDIR:-/tmp}" | awk 'NR == 2 { print $2 }')"
