# Everything that is done with this repository. `make` alone says what there is.
# A fresh machine needs Rust. What else is missing is said before anything is built, and on Debian installed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Lint tools, pinned; scripts/tools.sh builds them into .tools/ unless they are there.
CARGO_DENY := 0.20.2
CARGO_MACHETE := 0.9.2
CARGO_MUTANTS := 27.1.0
export PATH := $(CURDIR)/.tools/bin:$(PATH)

PYTHON_SDK := .venv/.installed
NODE_SDK := tests/sdk/node/node_modules/.installed

.PHONY: help
help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build the program, optimised
	cargo build --release --locked

.PHONY: demo
demo: ## Run simulator and gateway in one process, with nothing to configure
	cargo run --release --locked -- demo

.PHONY: test
test: ready sdks ## Install what the tests need and run all of them
	cargo test --locked

.PHONY: check
check: valgrind lint ## What else must hold: lint, threads under a scheduler, instruction counts
	cargo test --locked --lib --features shuttle interleave
	cargo bench --locked --features jemalloc --bench instructions

.PHONY: torture
torture: ## The long forms of the proofs, and a summary of what they found
	scripts/torture.sh

.PHONY: lint
lint: tools ## Formatting, clippy, dependencies: bans, licences, sources, unused ones
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	cargo machete

.PHONY: fmt
fmt: ## Format the code
	cargo fmt

.PHONY: bless
bless: valgrind ## Write the instruction counts down that `make check` holds the stages to
	cargo bench --locked --features jemalloc --bench instructions -- --bless

.PHONY: bench
bench: ## Run the micro benches, the ledger's and the keys', then the comparison with nginx
	cargo bench --locked
	if [ -x benches/compare ]; then benches/compare; fi

.PHONY: others
others: .others/.installed ## Install Envoy and LiteLLM, pinned, for the comparison: a gigabyte

.others/.installed: benches/others.txt
	python3 -m venv .others
	.others/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.PHONY: dist
dist: ## Build what is shipped and measured, guided by a profile: target/dist/weir
	scripts/dist.sh

.PHONY: mutants
mutants: ## Change the code in hundreds of small ways, and say what no test noticed: hours
	@scripts/tools.sh cargo-mutants $(CARGO_MUTANTS)
	scripts/mutants.sh

# What the tests and their SDKs need beside Rust.
.PHONY: ready
ready:
	@command -v cargo >/dev/null || { echo "Rust is missing: https://rustup.rs installs it" >&2; exit 1; }
	@scripts/debian-tools.sh cc=gcc python3 python3:ensurepip=python3-venv node=nodejs npm \
		kill=procps prlimit=util-linux setpriv=util-linux nginx
	@node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
		echo "node $$(node --version) is too old for the SDKs: https://nodejs.org has 20 and later" >&2; exit 1; }

.PHONY: valgrind
valgrind:
	@scripts/debian-tools.sh valgrind

.PHONY: tools
tools: ## Install the pinned lint tools into .tools/
	@scripts/tools.sh cargo-deny $(CARGO_DENY)
	@scripts/tools.sh cargo-machete $(CARGO_MACHETE)

.PHONY: sdks
sdks: $(PYTHON_SDK) $(NODE_SDK) ## Install the pinned SDKs for the tests

$(PYTHON_SDK): tests/sdk/python/requirements.txt | ready
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(NODE_SDK): tests/sdk/node/package.json tests/sdk/node/package-lock.json | ready
	cd tests/sdk/node && npm ci --no-progress
	touch $@

.PHONY: clean
clean: ## Remove everything that was built or installed here
	cargo clean
	rm -rf .tools .venv .others tests/sdk/node/node_modules
