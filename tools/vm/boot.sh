#!/bin/bash
# Boots a kernel and an initrd under software emulation, passes on what the guest writes, and ends as the guest says.
#
#   tools/vm/boot.sh KERNEL INITRD SCRATCH
#
# Ends with 75 if the guest's kernel locked up.
set -euo pipefail

kernel=$1 initrd=$2 scratch=$3
patience=${VM_TIMEOUT:-2700}
# One without AVX: Go and the C library choose their plain copies then, which are emulated a third faster.
cpu=${VM_CPU:-Nehalem-v1}
accel=${VM_ACCEL:-tcg,thread=multi,tb-size=1024}
# A kernel that locks up ends at once, with its stacks on the console. Two emulated processors do that once in a while.
append="console=ttyS0 panic=-1 loglevel=5 softlockup_panic=1 watchdog_thresh=20 mitigations=off"
append="$append rcupdate.rcu_expedited=1 ${VM_APPEND:-}"
qemu=''
rm -f "$scratch/output"
mkfifo "$scratch/output"
: >"$scratch/console" >"$scratch/verdict"

finish() {
    [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
    wait
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cat "$scratch/output" &
setpriv --pdeathsig TERM timeout -k 5 "$patience" qemu-system-x86_64 \
    -nodefaults -no-user-config -display none -no-reboot \
    -machine "${VM_MACHINE:-q35}" -accel "$accel" -cpu "$cpu" -smp "${VM_CPUS:-2}" -m "${VM_MEMORY:-4G}" \
    -kernel "$kernel" -initrd "$initrd" -append "$append" \
    -chardev file,id=console,path="$scratch/console" -serial chardev:console \
    -device virtio-serial-pci \
    -chardev file,id=output,path="$scratch/output" -device virtserialport,chardev=output,name=output \
    -chardev file,id=verdict,path="$scratch/verdict" -device virtserialport,chardev=verdict,name=verdict \
    </dev/null &
qemu=$!
code=0
wait "$qemu" || code=$?
qemu=''
wait
verdict=$(cat "$scratch/verdict")
case $verdict in
'' | *[!0-9]*)
    [ "$code" != 124 ] && [ "$code" != 137 ] || echo "vm: not done after $patience s" >&2
    ! grep -q 'soft lockup' "$scratch/console" || lockup=75
    echo "vm: the guest ended without a verdict (qemu: $code); the last lines of its console:" >&2
    tail -n 40 "$scratch/console" >&2
    exit "${lockup:-1}"
    ;;
esac
exit "$verdict"
