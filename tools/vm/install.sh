#!/bin/sh
# Installs what the test VM needs beside the project's own needs: an emulator, a Debian kernel, a second runtime, and the
# tools of a file system with project quotas. Only what is missing.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=''

# PACKAGE COMMAND: remembers the package if the command is not there.
need() {
    command -v "$2" >/dev/null 2>&1 || missing="$missing $1"
}

need qemu-system-x86 qemu-system-x86_64
need crun crun
need xfsprogs mkfs.xfs
need e2fsprogs mkfs.ext4
need kmod depmod
need systemd /lib/systemd/systemd
need dbus dbus-daemon
[ -n "$("$(dirname "$0")/kernel.sh" 2>/dev/null)" ] || missing="$missing linux-image-amd64"

[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
exec "$(dirname "$0")/../apt.sh" $missing
