#!/bin/sh
# Installs these Debian packages, quietly; says what is missing where that cannot be done.
#
#   tools/apt.sh PACKAGE...
set -eu

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing: $* (names of Debian packages); there is no apt-get here, install them by hand" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "missing: $*; run as root: apt-get install -y $*" >&2
    exit 1
fi
echo "installing $*"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may already be there; only fetch them if the first try does not find everything.
if ! apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1 &&
    ! { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get could not install $*" >&2
    exit 1
fi
