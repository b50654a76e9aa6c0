# `make help` lists what there is. Every path is relative, so that the tree may lie in a directory with spaces.

PYTHON ?= python3
VENV ?= .venv
GROUP ?= everything
ARGS ?=
PYTHON2 ?= python2.7

# Absolute, for tools that run elsewhere; always quoted.
venv_python = $(CURDIR)/$(VENV)/bin/python
sources := Cargo.toml $(wildcard Cargo.lock) pyproject.toml $(shell find src -name '*.rs')
# The environment is made when there is none that runs, and made anew when another PYTHON is named.
version = $(shell $(1) -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null)
standing := $(call version,"$(VENV)/bin/python")
wanted := $(if $(filter file default,$(origin PYTHON)),$(standing),$(call version,"$(PYTHON)"))
outdated := $(if $(standing),$(if $(wanted),$(filter-out $(standing),$(wanted)),yes),yes)

# What is missing is said before anything is made, in one line.
goals := $(filter-out help clean,$(MAKECMDGOALS))
needed := $(if $(filter-out docs test-container,$(goals)),rust)
needed += $(if $(filter fuzz,$(goals)),c++)
needed += $(if $(filter lint format,$(goals)),rust-lint)
needed += $(if $(goals),$(if $(outdated)$(filter test-container,$(goals)),python))
needed += $(if $(filter test-free-threaded,$(goals)),free-threaded)
needed += $(if $(filter test-container,$(goals)),container)
needed += $(if $(filter bench bench-quick,$(goals)),wrk)
needed += $(if $(filter bench-instructions,$(goals)),valgrind)
problem := $(strip $(foreach tool,$(needed),$(shell sh .ci/require $(tool) "$(PYTHON)" 2>&1)))
ifneq ($(problem),)
$(error $(problem))
endif

# maturin takes its environment from these; a conda one beside it would be an ambiguity.
export VIRTUAL_ENV = $(CURDIR)/$(VENV)
unexport CONDA_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DELETE_ON_ERROR:
.PHONY: attacks autobahn bench bench-environment bench-frameworks bench-instructions bench-quick bench-startup build clean conformance conformance-peers docs format fuzz help lint models reload-test reload-test-peers run sanitize soak test test-container test-differential test-free-threaded test-python test-rust FORCE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 28

run: $(VENV)/.built ## build in release mode and serve examples/app.py on port 8000 (ARGS="--port 9000")
	@"$(VENV)/bin/wsgi" examples/app.py $(ARGS)

build: $(VENV)/.built ## build in release mode into the environment

test: test-rust test-python ## set everything up and run every test

test-rust: ## the tests of the pure modules and the engine, which need no Python
	cargo test --no-default-features --features doubles

models: ## try every order in which the engine's threads can meet; needs no Python
	RUSTFLAGS='--cfg models' cargo test --no-default-features --lib --target-dir target/models order_tests

# RUSTC_BOOTSTRAP lets a stable compiler take the flag; the standard library that it comes with stays as it is.
sanitize: target := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
sanitize: ## the engine's tests under ThreadSanitizer; builds for some minutes (Linux); needs no Python
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg sanitized -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
	TSAN_OPTIONS="suppressions=$(CURDIR)/.ci/thread-sanitizer" \
	cargo test --no-default-features --lib --target $(target) --target-dir target/tsan engine:: -- --skip fault_tests

test-python: $(VENV)/.built ## the tests of the whole: server, types, stubs against the binary, architecture
	"$(VENV)/bin/python" -m pytest $(ARGS)
	"$(VENV)/bin/python" -m mypy
	"$(VENV)/bin/python" -m mypy.stubtest --mypy-config-file pyproject.toml wsgi._core

test-free-threaded: ## the tests of the whole on PYTHON=/path/to/python3.13t or newer
	UNSAFE_PYO3_SKIP_VERSION_CHECK=1 $(MAKE) test-python VENV=.venv-free-threaded GROUP=check PYTHON="$(PYTHON)"

test-differential: $(VENV)/.tools ## hold the parser against h11 and llhttp on many requests (ARGS="--cases 2000000 --seed 7")
	"$(VENV)/bin/python" -m tests.differential $(ARGS)

fuzz: ## run the fuzz targets, a minute each (ARGS="--seconds 600 head connection"); needs a C++ compiler
	@"$(PYTHON)" fuzz/run.py $(ARGS)

autobahn: $(VENV)/.built ## Autobahn's test suite against WebSockets, with PYTHON2=/path/to/python2.7, which it is written for
	@"$(PYTHON2)" --version >/dev/null 2>&1 || { echo "CPython 2.7 is missing: name one by PYTHON2=" >&2; exit 1; }
	PYTHONPATH="$(CURDIR)" "$(venv_python)" tests/autobahn/run.py "$(PYTHON2)" target/autobahn

test-container: ## build the image of the Dockerfile on a base made of Debian packages, and test it; needs root
	@"$(PYTHON)" tests/container/run.py

attacks: $(VENV)/.built ## let hostile clients loose on the server and print what came of it (ARGS="--interface asgi --only slow")
	@"$(VENV)/bin/python" -m tests.attacks $(ARGS)

reload-test: $(VENV)/.built ## reload the server 200 times under load and name every loss (ARGS="--reloads 10 --seed 7")
	@"$(VENV)/bin/python" -m tests.reload $(ARGS)

reload-test-peers: $(VENV)/.built .venv-conformance/.peers ## the same for other servers, too (ARGS="--page docs/reload.md")
	@"$(VENV)/bin/python" -m tests.reload --server all --environment .venv-conformance $(ARGS)

soak: $(VENV)/.built ## mixed load for some minutes (ARGS="--minutes 10"); fails if the server holds more and more
	@"$(VENV)/bin/python" -m tests.soak $(ARGS)

bench: bench-environment ## measure this server beside others (ARGS="--workloads hello --svg FILE", "--group asgi")
	".venv-bench/bin/python" -m benchmarks $(ARGS)

bench-quick: $(VENV)/.built ## does every kind of measurement run? A minute, with what the tests have installed
	"$(VENV)/bin/python" -m benchmarks --quick --unpinned $(ARGS)

# Of its own, so that peers never get into the way of the tests; ours is installed from the tree as users get it.
bench-environment: $(VENV)/.made
	@sh .ci/require rust
	@test -x .venv-bench/bin/python || "$(venv_python)" -m venv .venv-bench
	".venv-bench/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
	".venv-bench/bin/python" -m pip install --quiet --group bench
	@if sh .ci/require bjoern; then ".venv-bench/bin/python" -m pip install --quiet --group bench-bjoern; fi
	@".venv-bench/bin/python" -m pip install --quiet --group bench-uwsgi >/dev/null 2>&1 || \
		echo "make bench: uwsgi does not build here: it is left out" >&2
	".venv-bench/bin/python" -m pip install --quiet --force-reinstall --no-deps .

bench-instructions: $(VENV)/.built ## count instructions per request (ARGS="--functions 60 --workloads hello"); needs valgrind
	@"$(VENV)/bin/python" -m benchmarks.instructions $(ARGS)

bench-frameworks: $(VENV)/.built ## measure wsgi.application beside other frameworks, in one process (ARGS="--rounds 30")
	"$(VENV)/bin/python" -m benchmarks.frameworks $(ARGS)

bench-startup: bench-environment ## measure how soon servers answer after they were started (ARGS="--rounds 30")
	".venv-bench/bin/python" -m benchmarks.startup $(ARGS)

conformance: $(VENV)/.built ## test this server from outside, case by case (ARGS="--only both-framings")
	@"$(VENV)/bin/python" -m tests.conformance $(ARGS)

conformance-peers: $(VENV)/.built .venv-conformance/.peers ## the same for other servers, or one (ARGS="--server 'gunicorn --bind {address} {app}'")
	@"$(VENV)/bin/python" -m tests.conformance --environment .venv-conformance $(ARGS)

lint: $(VENV)/.built ## formatting, clippy, ruff and types, which need what the package depends on
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets --no-default-features --features doubles -- -D warnings
	PYO3_PYTHON="$(venv_python)" cargo clippy --all-targets -- -D warnings
	"$(VENV)/bin/python" -m ruff check
	"$(VENV)/bin/python" -m ruff format --check
	"$(VENV)/bin/python" -m mypy

format: $(VENV)/.tools ## format all code
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	"$(VENV)/bin/python" -m ruff check --fix
	"$(VENV)/bin/python" -m ruff format

docs: $(VENV)/.tools ## write docs/options.md and the tables of docs/migration.md anew from the table of options
	PYTHONPATH=python "$(VENV)/bin/python" docs/options.py
	PYTHONPATH=python "$(VENV)/bin/python" docs/migration.py

clean: ## remove everything that was built or installed
	rm -rf target fuzz/target dist .venv .venv-bench .venv-conformance .venv-free-threaded .mypy_cache .pytest_cache .ruff_cache
	find python tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f python/wsgi/_core*.so

# Stamps inside the environment: they vanish with it.
$(VENV)/.made: $(if $(outdated),FORCE)
	$(if $(outdated),rm -rf "$(VENV)" && "$(PYTHON)" -m venv "$(VENV)")
	@"$(VENV)/bin/python" -m pip --version >/dev/null 2>&1 || "$(VENV)/bin/python" -m ensurepip
	@touch "$@"

$(VENV)/.tools: $(VENV)/.made pyproject.toml
	"$(VENV)/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
	"$(VENV)/bin/python" -m pip install --quiet --group $(GROUP)
	@touch "$@"

# Those that come as source need a C compiler, one of them libev: what does not build is left out.
.venv-conformance/.peers: $(VENV)/.tools
	@test -x .venv-conformance/bin/python || "$(venv_python)" -m venv .venv-conformance
	".venv-conformance/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
	".venv-conformance/bin/python" -m pip install --quiet --group peers
	for group in bench-uwsgi bench-bjoern; do ".venv-conformance/bin/python" -m pip install --quiet --group $$group || true; done
	@touch "$@"

$(VENV)/.built: $(VENV)/.tools $(sources)
	PIP_QUIET=1 "$(VENV)/bin/python" -m maturin develop --release
	@touch "$@"
