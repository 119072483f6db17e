#!/bin/sh
# Licences, bans and sources of the dependencies, and security advisories if their list can be fetched.
# Says so, and succeeds, where cargo-deny is not installed: DENY_INSTALL=SECONDS lets it try to install it for that long.
set -eu

have() {
    cargo deny --version >/dev/null 2>&1
}

if ! have && [ -n "${DENY_INSTALL:-}" ]; then
    echo "installing cargo-deny (at most $DENY_INSTALL s)"
    # Unoptimised, which takes a third of the time, and it reads no more than a lock file.
    timeout "$DENY_INSTALL" cargo install -q --debug cargo-deny --locked || true
fi
if ! have; then
    echo "cargo deny: NOT CHECKED, it is not installed: cargo install cargo-deny --locked"
    exit 0
fi
cargo deny --locked --workspace --all-features check --hide-inclusion-graph licenses bans sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --locked --workspace --all-features check --hide-inclusion-graph advisories
else
    echo "cargo deny: advisories NOT CHECKED, their list cannot be fetched"
fi
