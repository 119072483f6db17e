#!/bin/busybox sh
# Runs guest.sh with its output on one port and its verdict on another, and ends the VM.
export PATH=/usr/bin
modprobe virtio_pci
modprobe virtio_console
# The names that boot.sh gave to the ports.
port() {
    for name in /sys/class/virtio-ports/*/name; do
        [ "$(cat "$name")" != "$1" ] || { echo "/dev/$(basename "$(dirname "$name")")"; return; }
    done
}
until [ -n "$(port verdict)" ]; do sleep 0.1; done
/guest >"$(port output)" 2>&1 </dev/null
echo $? >"$(port verdict)"
poweroff -f
