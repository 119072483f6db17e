#!/bin/sh
# Builds a small image from Debian's busybox-static, for the demo and the tests: no registry is needed.
# The same arguments give the same bytes. Needs only GNU tar, sha256sum and, for --zstd, zstd.
set -eu

usage() {
    cat <<'HELP'
usage: tools/make-image.sh [OPTION...] OUT.tar

  --name NAME          name of the image            (default: busybox:latest)
  --format FORMAT      docker (docker-archive), oci (OCI layout) or both, as newer `docker save` writes
                                                    (default: docker)
  --plain              layers as plain tar          (default for docker)
  --gzip               layers compressed with gzip  (default for oci and both)
  --zstd               layers compressed with zstd
  --add DIR            one more layer with the files of DIR; may be repeated
  --arch ARCH          the architecture that the image claims (default: this machine's)
  --env K=V  --entrypoint WORD  --cmd WORD  --volume DIR      may be repeated
  --user USER  --workdir DIR

The first layer has busybox, its applets, the users root, nobody and fn (uid 1000). If fixtures/scripts exists, a second
layer has its files in /scripts. BUSYBOX names another busybox; it must be statically linked.
HELP
}

die() {
    echo "make-image: $*" >&2
    exit 1
}

# A JSON string of the argument.
quote() {
    printf '"'
    printf '%s' "$1" | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' | tr -d '\n'
    printf '"'
}

# LIST VALUE: the list, with the value appended.
append() {
    [ -z "$1" ] || printf '%s,' "$1"
    quote "$2"
}

# The digest of a file, without its algorithm.
digest() {
    sha256sum "$1" | cut -d' ' -f1
}

size() {
    wc -c <"$1" | tr -d ' '
}

name=busybox:latest format=docker compression='' add='' arch='' out=''
env='' entrypoint='' cmd='' volumes='' user='' workdir=''
while [ $# -gt 0 ]; do
    option=$1
    case $option in
    --help | -h) usage; exit 0 ;;
    --plain | --gzip | --zstd) compression=${option#--}; shift; continue ;;
    --*) [ $# -ge 2 ] || die "$option needs a value" ;;
    *) [ -z "$out" ] || die "more than one output: $out and $option"; out=$option; shift; continue ;;
    esac
    value=$2
    shift 2
    case $option in
    --name) name=$value ;;
    --format) format=$value ;;
    --add) [ -d "$value" ] || die "$value is not a directory"; add="$add$value
" ;;
    --arch) arch=$value ;;
    --env) env=$(append "$env" "$value") ;;
    --entrypoint) entrypoint=$(append "$entrypoint" "$value") ;;
    --cmd) cmd=$(append "$cmd" "$value") ;;
    --volume) volumes="${volumes:+$volumes,}$(quote "$value"):{}" ;;
    --user) user=$value ;;
    --workdir) workdir=$value ;;
    *) die "unknown option $option (try --help)" ;;
    esac
done
[ -n "$out" ] || { usage >&2; exit 64; }
case $format in
docker) : "${compression:=plain}" ;;
oci | both) : "${compression:=gzip}" ;;
*) die "unknown format $format (docker, oci or both)" ;;
esac
if [ -z "$arch" ]; then
    case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
    esac
fi
busybox=${BUSYBOX:-$(command -v busybox || true)}
[ -n "$busybox" ] || die "busybox is not installed: apt-get install busybox-static"
case $(ldd "$busybox" 2>/dev/null || true) in
*'=>'*) die "$busybox is not statically linked: apt-get install busybox-static" ;;
esac

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
blobs=$work/image/blobs/sha256
mkdir -p "$blobs"
umask 022
layer_paths='' layer_descriptors='' diff_ids=''

# DIR: adds a layer with the files of DIR. Owner, time and order are fixed; home/fn belongs to fn.
layer() {
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu \
        --exclude=./home/fn -C "$1" -cf "$work/layer.tar" .
    if [ -d "$1/home/fn" ]; then
        tar --mtime=@0 --owner=1000 --group=1000 --numeric-owner --format=gnu \
            -C "$1" -rf "$work/layer.tar" ./home/fn
    fi
    diff_ids=$(append "$diff_ids" "sha256:$(digest "$work/layer.tar")")
    type=application/vnd.oci.image.layer.v1.tar
    case $compression in
    plain) cp "$work/layer.tar" "$work/layer" ;;
    gzip) gzip -n -c "$work/layer.tar" >"$work/layer"; type=$type+gzip ;;
    zstd) zstd -q -c "$work/layer.tar" >"$work/layer"; type=$type+zstd ;;
    esac
    sum=$(digest "$work/layer")
    case $format in
    docker) path=$sum/layer.tar; mkdir -p "$work/image/$sum" ;;
    *) path=blobs/sha256/$sum ;;
    esac
    cp "$work/layer" "$work/image/$path"
    layer_paths=$(append "$layer_paths" "$path")
    layer_descriptors="${layer_descriptors:+$layer_descriptors,}$(
        printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$type" "$sum" "$(size "$work/layer")"
    )"
}

root=$work/root
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/dev" "$root/proc" "$root/sys" "$root/root" "$root/home/fn"
chmod 1777 "$root/tmp"
chmod 0700 "$root/root"
install -m 0755 "$busybox" "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false fn:x:1000:1000:fn:/home/fn:/bin/sh \
    >"$root/etc/passwd"
printf '%s\n' root:x:0: nogroup:x:65534: fn:x:1000: data:x:1500:fn >"$root/etc/group"
layer "$root"

if [ -d "$here/fixtures/scripts" ]; then
    mkdir -p "$work/scripts/scripts"
    cp "$here"/fixtures/scripts/* "$work/scripts/scripts/"
    chmod 0755 "$work/scripts" "$work/scripts/scripts" "$work"/scripts/scripts/*
    layer "$work/scripts"
fi
printf '%s' "$add" >"$work/add"
while read -r dir; do
    layer "$dir"
done <"$work/add"

path_env=$(quote PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
config=$work/config.json
{
    printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{' "$arch"
    printf '"Env":[%s]' "$path_env${env:+,$env}"
    printf ',"Cmd":[%s]' "${cmd:-\"sh\"}"
    [ -z "$entrypoint" ] || printf ',"Entrypoint":[%s]' "$entrypoint"
    [ -z "$volumes" ] || printf ',"Volumes":{%s}' "$volumes"
    [ -z "$user" ] || printf ',"User":%s' "$(quote "$user")"
    [ -z "$workdir" ] || printf ',"WorkingDir":%s' "$(quote "$workdir")"
    printf '},"rootfs":{"type":"layers","diff_ids":[%s]}}' "$diff_ids"
} >"$config"
config_digest=$(digest "$config")

case $format in
docker) config_path=$config_digest.json ;;
*) config_path=blobs/sha256/$config_digest ;;
esac
cp "$config" "$work/image/$config_path"
if [ "$format" != oci ]; then
    printf '[{"Config":"%s","RepoTags":[%s],"Layers":[%s]}]\n' "$config_path" "$(quote "$name")" "$layer_paths" \
        >"$work/image/manifest.json"
fi
if [ "$format" = docker ]; then
    rm -r "$work/image/blobs"
else
    manifest=$work/manifest.json
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"sha256:%s","size":%s},"layers":[%s]}' \
        application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.config.v1+json \
        "$config_digest" "$(size "$config")" "$layer_descriptors" >"$manifest"
    manifest_digest=$(digest "$manifest")
    cp "$manifest" "$blobs/$manifest_digest"
    # The full name and the tag alone, as containerd and `docker save` annotate.
    case $name in
    localhost/* | *[.:]*/*) full=$name ;;
    */*) full=docker.io/$name ;;
    *) full=docker.io/library/$name ;;
    esac
    case ${name##*/} in
    *:*) tag=${name##*:} ;;
    *) tag=latest ;;
    esac
    printf '{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s","digest":"sha256:%s","size":%s,"annotations":{%s:%s,%s:%s}}]}' \
        application/vnd.oci.image.index.v1+json application/vnd.oci.image.manifest.v1+json \
        "$manifest_digest" "$(size "$manifest")" \
        "$(quote io.containerd.image.name)" "$(quote "$full")" \
        "$(quote org.opencontainers.image.ref.name)" "$(quote "$tag")" >"$work/image/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
fi
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$work/image" -cf "$work/out.tar" .
mv "$work/out.tar" "$out"
