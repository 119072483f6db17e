#!/bin/sh
# The laws of the driver contract (tests/conformance) as a table of laws and drivers.
#
#   tools/laws.sh table DIR           prints what the tests have noted in DIR, a column for each driver
#   tools/laws.sh engines DIR ENGINES  takes the driver `docker` through them on real Docker Engines, 20.10 and 28, whose
#                                      packages are kept below ENGINES, and prints the table; says which cannot be had
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

table() {
    [ -n "$(ls "$1" 2>/dev/null)" ] || { echo 'laws: no driver was taken through them' >&2; exit 1; }
    printf '\nThe laws of the contract, and the drivers that keep them:\n\n'
    # The laws are as many for all; the rows are those of the first column.
    awk -F '\t' '
        FNR == 1 { column++; heading[column] = $0; next }
        { if (!($1 in known)) { known[$1]; row[++rows] = $1 } verdict[$1, column] = $2 }
        END {
            for (c = 1; c <= column; c++) printf "  %d  %s\n", c, heading[c]
            printf "\n%-66s", "law"
            for (c = 1; c <= column; c++) printf " %4d", c
            printf "\n"
            for (r = 1; r <= rows; r++) {
                printf "%-66s", row[r]
                for (c = 1; c <= column; c++) {
                    said = verdict[row[r], c]
                    mark = said == "kept" ? "yes" : said == "" ? "-" : said ~ /^skipped/ ? "skip" : "NO"
                    if (mark != "yes" && mark != "-") notes[++noted] = row[r] ", " heading[c] ": " said
                    printf " %4s", mark
                }
                printf "\n"
            }
            for (n = 1; n <= noted; n++) print notes[n]
        }' "$1"/*
}

engine=''
finish() {
    [ -z "$engine" ] || kill "$engine" 2>/dev/null || true
    [ -z "$engine" ] || wait "$engine" || true
    engine=''
}

# SUITE: on the engine of a suite.
on_engine() {
    dir=$engines/$1
    if ! [ -x "$dir/bin/dockerd" ] && ! "$here/tools/docker-engine.sh" fetch "$dir" "$1"; then
        echo "laws: the Docker Engine of Debian $1 cannot be had here; its column is missing"
        return
    fi
    # docker-engine.sh refuses it, too; its socket would be taken for the new engine's.
    if [ -s "$dir/docker.pid" ] && kill -0 "$(cat "$dir/docker.pid")" 2>/dev/null; then
        echo "laws: process $(cat "$dir/docker.pid") is an engine of $dir already; end it first" >&2
        worst=1
        return
    fi
    rm -f "$dir/docker.sock"
    "$here/tools/docker-engine.sh" run "$dir" &
    engine=$!
    tries=0
    until [ -S "$dir/docker.sock" ] && "$dir/bin/docker" -H "unix://$dir/docker.sock" version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" = 150 ] || ! kill -0 "$engine" 2>/dev/null; then
            echo "laws: the Docker Engine of Debian $1 does not answer; the end of $dir/log:" >&2
            tail -n 5 "$dir/log" >&2 || true
            worst=1
            finish
            return
        fi
        sleep 0.2
    done
    # The tests have the registry and the syslog that the engine is to reach.
    (cd "$here" && PATH=$dir/bin:$PATH FNCTR_TEST_DOCKER="unix://$dir/docker.sock" FNCTR_REQUIRE_REAL=1 FNCTR_CONFIG='' \
        nsenter "--net=/run/netns/$(cat "$dir/netns")" \
        ${CARGO:-cargo} test --locked --offline --all-features --test real -- on_dockerd) || worst=1
    finish
}

[ $# -ge 2 ] || usage
case $1 in
table) table "$2" ;;
engines)
    [ $# = 3 ] || usage
    FNCTR_LAWS=$2 engines=$3
    export FNCTR_LAWS
    worst=0
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Not what an earlier run has noted.
    rm -f "$2"/docker-on-Docker-Engine-*
    # Before, because an engine's network namespace leads nowhere.
    (cd "$here" && ${CARGO:-cargo} test --locked --all-features --test real --no-run)
    on_engine bookworm
    on_engine sid
    table "$2"
    exit "$worst"
    ;;
*) usage ;;
esac
