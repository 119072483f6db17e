#!/bin/bash
# Full cgroup v2 on a host that has none: builds the tests, puts them with a Debian kernel, containerd and two runtimes
# into an initrd, and runs them in an emulated machine that shares nothing with the host and leaves nothing behind.
#
#   tools/vm/test.sh [RUNTIME...]        default: runc crun
#
# VM_FORM=short: in a few minutes, what a change breaks first: limits, memory that runs out, freezing and a whole life.
# VM_SUITES: the modules of tests/real that run with the first runtime; VM_SUITES_AGAIN: those that run with the others,
# without what no runtime has a part in. VM_BENCH: the numbers of processes to measure freezing with.
# VM_INIT=systemd: with systemd as the guest's first process, which then makes the containers' cgroups.
# VM_TIMEOUT: seconds until the machine is ended as hung.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
runtimes=${*:-runc crun}
form=${VM_FORM:-full}
if [ "$form" = short ]; then
    suites=${VM_SUITES-resources::brief memory::} bench=${VM_BENCH-}
elif [ "${VM_INIT:-}" = systemd ]; then
    suites=${VM_SUITES-drivers:: kept:: memory:: network::reach:: session::} bench=${VM_BENCH-}
    VM_SUITES_AGAIN=${VM_SUITES_AGAIN-drivers:: memory:: resources::}
else
    suites=${VM_SUITES-kept:: laws:: memory:: quota:: races:: reclaim:: resources:: stats::} bench=${VM_BENCH-1 10 100}
fi
again=${VM_SUITES_AGAIN-$(tr ' ' '\n' <<<"$suites" | sed -E '/^(quota|races|reclaim|stats)::$/d' | tr '\n' ' ')}
began=$SECONDS

cd "$project"
# One JSON object per artefact; those of tests and binaries name their executable. All features: what `make test` has built.
built=$(cargo test --locked --workspace --all-features --no-run --message-format=json --lib --bins --test real |
    sed -n 's/.*"target":{"kind":\["\([a-z]*\)"\].*"name":"\([a-z_]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p')
# KIND NAME: the last one listed is the one that was asked for.
executable() {
    awk -v kind="$1" -v name="$2" '$1 == kind && $2 == name { found = $3 } END { print found }' <<<"$built"
}
# The command itself is listed as a binary, and once more as its own (empty) test.
fnctr=${CARGO_TARGET_DIR:-$project/target}/debug/fnctr
lib=$(executable lib fnctr)
real=$(executable test real)
for file in "$fnctr" "$lib" "$real"; do
    [ -x "$file" ] || { echo "vm: cargo did not tell where the tests are" >&2; exit 1; }
done

kernel=$("$here/kernel.sh")
scratch=$(mktemp -d /tmp/fnctr-vm.XXXXXX)
boot=''
finish() {
    [ -z "$boot" ] || { kill "$boot" 2>/dev/null; wait "$boot"; } || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

root=$scratch/root
"$here/root.sh" "$kernel" "$root" "$fnctr" "$lib" "$real"
install -m 755 "$here/init.sh" "$root/init"
install -m 755 "$here/handover.sh" "$root/handover"
install -m 755 "$here/guest.sh" "$root/guest"
cat >"$root/settings" <<SETTINGS
project='$project' fnctr='$fnctr' lib='$lib' real='$real'
runtimes='$runtimes' suites='$suites' again='$again' bench='$bench' init='${VM_INIT:-}' form='$form'
SETTINGS
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$scratch/initrd"
rm -rf "$root"
echo "vm: Debian's kernel $kernel, an initrd of $(du -m "$scratch/initrd" | cut -f1) MB, emulated ($((SECONDS - began)) s to make)"
code=75
for try in first second; do
    # In the background, so that a signal reaches us while it runs.
    "$here/boot.sh" "/boot/vmlinuz-$kernel" "$scratch/initrd" "$scratch" &
    boot=$! code=0
    wait "$boot" || code=$?
    boot=''
    [ "$code" = 75 ] || break
    echo "vm: the kernel of the $try machine locked up, which says nothing about what runs on it" >&2
done
echo "vm: $((SECONDS - began)) s in all"
exit "$code"
