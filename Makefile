# Everything that is done with this repository. `make` alone says what there is.
# A fresh machine needs Rust, and for `make test` python3 (with venv), node and valgrind; the rest is fetched.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Lint tools, pinned; scripts/tools.sh builds them into .tools/ unless they are there.
CARGO_DENY := 0.20.2
CARGO_MACHETE := 0.9.2
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
test: sdks lint ## Install what the tests need, lint, run all tests, count instructions
	cargo test --locked
	cargo test --locked --lib --features shuttle interleave
	scripts/debian-tools.sh valgrind
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
bless: ## Write the instruction counts down that `make test` holds the stages to
	scripts/debian-tools.sh valgrind
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

.PHONY: tools
tools: ## Install the pinned lint tools into .tools/
	@scripts/tools.sh cargo-deny $(CARGO_DENY)
	@scripts/tools.sh cargo-machete $(CARGO_MACHETE)

.PHONY: sdks
sdks: $(PYTHON_SDK) $(NODE_SDK) ## Install the pinned SDKs for the tests

$(PYTHON_SDK): tests/sdk/python/requirements.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(NODE_SDK): tests/sdk/node/package.json tests/sdk/node/package-lock.json
	cd tests/sdk/node && npm ci --no-progress
	touch $@

.PHONY: clean
clean: ## Remove everything that was built or installed here
	cargo clean
	rm -rf .tools .venv .others tests/sdk/node/node_modules
