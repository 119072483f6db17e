#!/bin/busybox sh
# The VM's first process. A container runtime needs pivot_root, which the kernel refuses on the file system that it
# unpacks an initrd into (Documentation/filesystems/ramfs-rootfs-initramfs.rst), so everything moves to a tmpfs first.
# Then it mounts what a host has, and hands over to handover.sh; or systemd does both, if root.sh put it there.
export PATH=/usr/bin
if [ ! -e /moved ]; then
    mount -t tmpfs -o size=80%,mode=755 tmpfs /mnt
    for entry in /*; do
        case $entry in
        /mnt | /dev | /proc | /sys) ;;
        *) cp -a "$entry" /mnt/ ;;
        esac
    done
    mkdir /mnt/mnt /mnt/dev /mnt/proc /mnt/sys
    : >/mnt/moved
    exec switch_root /mnt /init
fi
rm /moved
[ ! -x /usr/lib/systemd/systemd ] || exec /usr/lib/systemd/systemd

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
ip link set lo up
hostname vm
exec /handover
