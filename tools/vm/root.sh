#!/bin/sh
# Assembles the root file system of the test VM in a directory: the host's own containerd, runtimes and a few programs
# with the libraries that they need, the kernel's modules, and the project's test binaries where Cargo put them.
#
#   tools/vm/root.sh KERNEL-VERSION DIRECTORY TEST-BINARY...
#
# VM_INIT=systemd: with systemd as its first process, and the D-Bus through which a runtime asks it for cgroups.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
kernel=$1 root=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)

# What the suites load, and what the kernel loads for them. `modprobe --show-depends` adds what these need.
modules='virtio_pci virtio_console overlay loop ext4 xfs veth bridge br_netfilter'
# What iptables asks the kernel for, by way of the plugins of a bridge network.
modules="$modules nf_tables nft_compat nft_chain_nat xt_comment xt_conntrack xt_MASQUERADE xt_addrtype xt_multiport xt_mark xt_nat"

die() {
    echo "vm/root: $*" >&2
    exit 1
}

# FILE [PLACE]: copies a file to the same place below the root, or to another one.
put() {
    place=$root${2:-$1}
    [ -e "$place" ] && return
    mkdir -p "${place%/*}"
    cp -L "$1" "$place"
}

# FILE...: copies the libraries and the loader that these programs ask for.
libraries() {
    # A line is `NAME => FILE (ADDRESS)`, or `FILE (ADDRESS)` for the loader; the vDSO has no file.
    ldd "$@" 2>/dev/null | sed -n 's/^[[:space:]].* => \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]\(\/[^ ]*\) (.*/\1/p' | sort -u |
        while read -r library; do
            put "$library"
        done
}

# NAME...: copies programs from the host's PATH, with their libraries.
programs() {
    for name in "$@"; do
        file=$(command -v "$name") || die "$name is not installed: tools/vm/install.sh"
        file=$(readlink -f "$file")
        put "$file" "/usr/bin/$name"
        libraries "$file"
    done
}

# The directories that a Debian root has, merged into /usr as Debian does.
mkdir -p "$root/usr/bin" "$root/usr/lib64" "$root/usr/lib"
for dir in dev proc sys tmp run etc root var/lib mnt; do
    mkdir -p "$root/$dir"
done
chmod 1777 "$root/tmp"
for dir in bin lib lib64; do
    ln -s "usr/$dir" "$root/$dir"
done
ln -s usr/bin "$root/sbin"
ln -s bin "$root/usr/sbin"
ln -s /proc/self/mounts "$root/etc/mtab"

programs dash containerd containerd-shim-runc-v2 runc crun tini-static tar gzip zstd install sha256sum mkfs.xfs mkfs.ext4 fsfreeze
# What the quota tests ask for what the kernel holds: nothing of this project, and no applet that knows less.
programs lsattr xfs_quota findmnt ctr
# Networks, with what the plugins run and what the tests look at.
programs iptables iptables-save iptables-restore ip6tables ip6tables-save ip nsenter pgrep
for plugin in bridge host-local firewall portmap; do
    put "/usr/lib/cni/$plugin"
done
for library in /usr/lib/*/xtables; do
    mkdir -p "$root$library"
    cp -a "$library/." "$root$library/"
done

ln -s dash "$root/usr/bin/sh"

# Everything else is busybox, statically linked: nothing starts faster.
put "$(readlink -f "$(command -v busybox)")" /usr/bin/busybox
busybox --list | while read -r applet; do
    [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done

printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
cp -L /etc/os-release "$root/etc/os-release"

from=/lib/modules/$kernel
[ -d "$from" ] || die "$from is not there: tools/vm/install.sh"
for module in $modules; do
    modprobe -S "$kernel" --show-depends "$module" | while read -r verb file _; do
        [ "$verb" != insmod ] || put "$file"
    done
done
for file in modules.builtin modules.builtin.modinfo modules.order; do
    put "$from/$file"
done
depmod -b "$root" "$kernel"

# Of systemd's units only those that the guest waits for: a real host's would start for minutes under emulation.
if [ "${VM_INIT:-}" = systemd ]; then
    put /lib/systemd/systemd
    put /usr/bin/dbus-daemon
    # By which a private containerd leaves the service or session that starts it.
    put /usr/bin/systemd-run
    libraries /lib/systemd/systemd /usr/bin/dbus-daemon /usr/bin/systemd-run
    for unit in dbus.service dbus.socket basic.target sysinit.target sockets.target shutdown.target; do
        put "/lib/systemd/system/$unit"
    done
    for file in system.conf system.d/org.freedesktop.systemd1.conf; do
        put "/usr/share/dbus-1/$file"
    done
    grep '^messagebus:' /etc/passwd >>"$root/etc/passwd"
    grep '^messagebus:' /etc/group >>"$root/etc/group"
    echo vm >"$root/etc/hostname"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    mkdir -p "$root/etc/systemd/system"
    cat >"$root/etc/systemd/system/guest.service" <<'UNIT'
[Unit]
Requires=dbus.service
After=dbus.service
[Service]
ExecStart=/handover
TasksMax=infinity
UNIT
    printf '%s\n' '[Unit]' Requires=guest.service >"$root/etc/systemd/system/default.target"
fi

# At the place where they were built: a test knows the project's directory and the command's path from its compilation.
for binary in "$@"; do
    put "$binary"
    strip "$root$binary"
done
libraries "$@"
for dir in tools fixtures; do
    mkdir -p "$root$project"
    cp -a "$project/$dir" "$root$project/$dir"
done
