#!/bin/sh
# Prints the version of the newest Debian kernel that is installed with its modules; fails if there is none.
set -eu

newest=$(for image in /boot/vmlinuz-*-amd64; do
    version=${image#/boot/vmlinuz-}
    [ ! -d "/lib/modules/$version" ] || echo "$version"
done | sort -V | tail -n 1)
[ -n "$newest" ] || { echo 'vm/kernel: no Debian kernel is installed: apt-get install linux-image-amd64' >&2; exit 1; }
echo "$newest"
