#!/bin/sh
# Installs the Debian packages that building, testing and the demo need: only those that are missing, so that a host
# that has everything needs neither network nor apt.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=''

# PACKAGE COMMAND: remembers the package if the command is not there.
need() {
    command -v "$2" >/dev/null 2>&1 || missing="$missing $1"
}

# A dynamically linked program cannot run in a root file system that has no libraries.
static() {
    case $(ldd "$(command -v "$1")" 2>/dev/null || true) in
    *'=>'*) return 1 ;;
    esac
}

need containerd containerd
need containerd containerd-shim-runc-v2
need runc runc
need protobuf-compiler protoc
# Debian's protobuf-compiler only recommends the well-known types, which containerd's API imports.
[ -e /usr/include/google/protobuf/any.proto ] || [ -e /usr/local/include/google/protobuf/any.proto ] ||
    missing="$missing libprotobuf-dev"
need tini tini-static
need zstd zstd
need docker-registry docker-registry
need openssl openssl
need iptables iptables
need iproute2 ip
[ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || missing="$missing containernetworking-plugins"
# A client of Docker's API that programs use, for the tests.
need python3 python3
# The first python3 may be another one than Debian's, which has the package.
python3 -c 'import docker' 2>/dev/null || /usr/bin/python3 -c 'import docker' 2>/dev/null ||
    missing="$missing python3-docker"
need gcc cc
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
if ! command -v busybox >/dev/null 2>&1 || ! static busybox; then
    missing="$missing busybox-static"
fi
# Each once, though a package may have several commands.
missing=$(printf '%s\n' $missing | sort -u)

if ! command -v cargo >/dev/null 2>&1; then
    echo "install-deps: cargo is not installed; get Rust 1.88 or newer from https://rustup.rs" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
exec "$(dirname "$0")/apt.sh" $missing
