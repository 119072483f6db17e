# The commands people type; nothing happens in CI that cannot be typed here.
#
#   make demo     installs what is missing, builds, and shows a function's life on a private containerd; with PROFILE=dev it
#                 builds in a third of the time (part of which make test needs too), but freezes take three times as long
#   make demo-network  two containers on the default bridge network reach each other and the host
#   make demo-docker  the docker command and docker-py on a host without dockerd, and their times beside a real engine's, whose
#                 packages are downloaded and not installed
#   make test     installs what is missing, and runs every test, those on real containerd included (as root)
#   make laws     takes the driver `docker` through the laws of the contract on real Docker Engines, 20.10 and 28, whose packages
#                 are downloaded and not installed, and prints the table of these and of the drivers that make test has tried
#   make soak     lives and faults of every kind side by side for half an hour (SOAK_SECONDS), after which nothing is left
#   make test-vm  limits, memory that runs out, freezing and a whole life on full cgroup v2, in an emulated machine, with runc
#                 and with crun; some five minutes
#   make test-vm-full  there, too, the laws, quotas, races, statistics; and what changes where systemd makes the cgroups
#   make test-vm-systemd  the second part of that, alone
#   make test-nested  runs the tests on real containerd inside a privileged container; V2=1 adds the v2 tree to v1 cgroups
#   make package  both crates as they would be published
#   make check    format, lints, docs, the tests, and licences and advisories if cargo-deny is there
#   make bless    rewrites the golden files from what the code now gives; review the difference

CARGO ?= cargo
# The demo prints measured times, so it runs what users run; PROFILE=dev for a look at the rest, and FEATURES=--all-features
# for the build that make test has made already.
PROFILE ?= release
FEATURES ?= --features cli
# Tests that use containers share a host with each other; more at once only makes them slower.
TEST_THREADS ?= 4

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
# Where the tests note which driver keeps which law.
LAWS := $(TARGET)/laws
FNCTR := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/fnctr

.DEFAULT_GOAL := help
.PHONY: help demo demo-network demo-docker test laws soak test-vm test-vm-full test-vm-systemd test-nested check fmt lint doc deny package bless install-deps build release clean about-host

help:
	@sed -n 's/^#   //p' Makefile

install-deps:
	@tools/install-deps.sh

about-host:
	@tools/about-host.sh

build: install-deps
	$(CARGO) build --locked --profile $(PROFILE) $(FEATURES) --bins

release: install-deps
	$(CARGO) build --locked --release --features cli --bins

demo: build
	@FNCTR=$(abspath $(FNCTR)) tools/demo.sh

demo-network: build
	@FNCTR=$(abspath $(FNCTR)) tools/demo-network.sh

demo-docker: build
	@FNCTR=$(abspath $(FNCTR)) tools/demo-docker.sh

# Lives and faults of every kind, side by side, for half an hour; `make test` has a short form.
SOAK_SECONDS ?= 1800
soak: install-deps
	FNCTR_CONFIG= FNCTR_REQUIRE_REAL=1 FNCTR_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked --all-features --test real soak:: -- --nocapture

# A test that needs real containerd fails, rather than being skipped, when it cannot have it.
test: install-deps about-host
	@rm -rf $(LAWS)
	FNCTR_LAWS=$(abspath $(LAWS)) FNCTR_CONFIG= FNCTR_REQUIRE_REAL=1 RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --workspace --all-features --no-fail-fast
	@tools/laws.sh table $(LAWS)
	@tools/about-host.sh

laws: install-deps
	@tools/laws.sh engines $(abspath $(LAWS)) $(abspath $(TARGET)/docker-engines)

# Installs an emulator, a Debian kernel and crun if they are missing. VM_RUNTIMES and VM_SUITES run a part.
VM_RUNTIMES ?= runc crun
test-vm: install-deps
	@tools/vm/install.sh
	@VM_FORM=short tools/vm/test.sh $(VM_RUNTIMES)

test-vm-full: install-deps
	@tools/vm/install.sh
	@tools/vm/test.sh $(VM_RUNTIMES)
	@VM_INIT=systemd tools/vm/test.sh $(VM_RUNTIMES)

test-vm-systemd: install-deps
	@tools/vm/install.sh
	@VM_INIT=systemd tools/vm/test.sh $(VM_RUNTIMES)

# TESTS names some of them, as in TESTS='laws limits'.
test-nested: install-deps
	$(CARGO) build --locked --features cli --bins
	@real=$$($(CARGO) test --locked --features cli --test real --no-run --message-format short 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$$/\1/p') && \
	RUST_TEST_THREADS=$(TEST_THREADS) tools/nested.sh $(TARGET)/debug/fnctr "$$real" $(TESTS)

bless: install-deps
	BLESS=1 $(CARGO) test --locked -p fnctr-oci
	@git --no-pager diff --stat -- fixtures

fmt:
	$(CARGO) fmt --all -- --check

# The library alone, too, as a platform builds it: without the command there must be no warning, and no clap. And the command
# as most build it, without OpenTelemetry and the driver `docker`.
lint: install-deps
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --package fnctr --lib -- -D warnings
	$(CARGO) clippy --locked --package fnctr --features cli --lib --bins -- -D warnings
	@! $(CARGO) tree --locked --package fnctr --edges normal --prefix none | grep -E '^(clap|tracing-subscriber|bollard) '
	@! $(CARGO) tree --locked --package fnctr --features cli --edges normal --prefix none | grep -E 'opentelemetry'

# Both crates as they would be published, in target/package.
package:
	$(CARGO) package --locked --workspace --no-verify

doc: install-deps
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --all-features --no-deps --document-private-items

deny:
	@tools/deny.sh

check: fmt lint doc deny test

clean:
	$(CARGO) clean
