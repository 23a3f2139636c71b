# Chainfire's targets; `make` alone lists them. Needs make and Python 3.11 or newer, nothing else:
# everything is installed into .venv, and nothing outside this directory is written.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
# The compiler of the .proto sources. It stands apart from the environment, because it would pull
# in a protobuf runtime as old as itself.
PROTOC := grpcio-tools==1.66.2
PROTOC_DIR := $(VENV)/protoc
SOURCES := src tests bench scripts compiled
COMPILED := $(VENV)/.compiled
HOT := compiled/setup.py compiled/modules.toml $(wildcard src/chainfire/*.py src/chainfire/*/*.py)
NATIVE := $(wildcard native/*.toml native/Cargo.lock native/*.pyi native/src/*.rs native/src/*/*.rs)

COMPILED_TESTS := $(addprefix tests/,lease machine mvcc raft sim/test_seeds.py storage watch)

.DEFAULT_GOAL := help
.PHONY: help setup compiled run test test-compiled test-all lint types fmt native portable three-members proto bench bench-cluster bench-watch \
  bench-failover bench-stalls bench-sizes bench-restarts differential compat openapi fuzz swarm faults mutants clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with everything (five minutes); a second call does nothing

$(STAMP): pyproject.toml Makefile $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Chainfire needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps \
	  --target $(PROTOC_DIR) $(PROTOC)
	@if ! command -v cargo >/dev/null; then \
	  echo "cargo is not installed: Chainfire will serve through the portable door (grpcio)"; \
	elif ! $(BIN)/python -m pip install --quiet --disable-pip-version-check ./native; then \
	  echo "the native door cannot be built: Chainfire will serve through the portable one (grpcio)"; \
	fi
	@$(COMPILE)
	@touch $@

# By mypyc, which takes its time: hence not at each change of a source, but here and by `make compiled`.
define COMPILE
if ! command -v cc >/dev/null; then \
  echo "no C compiler: the hot modules of Chainfire will run interpreted"; \
elif echo "compiling the hot modules, which takes up to three minutes"; \
  ! $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
  --no-deps ./compiled; then \
  echo "the hot modules cannot be compiled: they will run interpreted"; \
fi; \
touch $(COMPILED)
endef

compiled: $(COMPILED) ## compile the hot modules once more, if sources have changed (three minutes)

# Where `setup` has just done so, make still believes that it is to be done.
$(COMPILED): $(HOT) | $(STAMP)
	@if [ ! -e $@ ] || [ -n "$$(find $(HOT) -newer $@)" ]; then $(COMPILE); fi

run: setup ## start a member on 127.0.0.1:2379; flags by ARGS="--data-dir=…"
	@exec $(BIN)/chainfire serve $(ARGS)

test: compiled lint types test-compiled ## lint, types and the fast tests
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

test-compiled: compiled ## the tests of the pure cores, over the compiled modules
	CHAINFIRE_TEST_COMPILED=1 $(BIN)/python -m pytest -m 'not slow and not interpreted' $(COMPILED_TESTS)

test-all: compiled lint types test-compiled ## the same with the slow tests
	$(BIN)/python -m pytest $(ARGS)

lint: setup ## ruff: rules and format
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))

types: setup ## mypy: the product strictly, tests and benchmarks for what a rename has missed
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

fmt: setup ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

native: ## the crate: format, clippy, tests (needs cargo)
	cd native && cargo fmt --check
	cd native && cargo clippy --quiet --all-targets --features python -- -D warnings
	cd native && cargo test --quiet

proto: setup ## generate src/chainfire/proto from proto/
	$(BIN)/python scripts/generate_proto.py

bench: compiled ## measure against etcd with many keys, interleaved (needs etcd); options by ARGS
	$(BIN)/python -m bench.many $(ARGS)

bench-cluster: compiled ## the same with three members of each, at the leader and at a follower (six minutes)
	$(BIN)/python -m bench.cluster $(ARGS)

bench-watch: compiled ## watch fan-out, lease grants and keepalives beside etcd's (four minutes)
	$(BIN)/python -m bench.watch $(ARGS)

bench-failover: compiled ## kill leaders of Chainfire and etcd, measure until writes go on (minutes)
	$(BIN)/python -m bench.failover $(ARGS)

bench-stalls: compiled ## long work beside small puts on Chainfire and etcd: what stalls? (minutes)
	$(BIN)/python -m bench.stalls $(ARGS)

bench-sizes: compiled ## memory, restart and put rate with more and more keys, beside etcd (minutes)
	$(BIN)/python -m bench.sizes $(ARGS)

bench-restarts: compiled ## kill a member between log sync, apply and truncation; how soon is it back? (minutes)
	$(BIN)/python -m bench.restarts $(ARGS)

differential: setup ## compare 1,000,000 answers with a real etcd's
	$(BIN)/python -m tests.compat.differential --requests 1000000 $(ARGS)

portable: setup ## the tests that start servers, over the portable door (grpcio)
	CHAINFIRE_TEST_FLAGS=--door=grpcio $(BIN)/python -m pytest -m 'not slow' tests/compat tests/crash $(ARGS)

three-members: setup ## the tests of one server against a cluster of three; options by ARGS
	CHAINFIRE_TEST_MEMBERS=3 $(BIN)/python -m pytest -m 'not slow and not lone' tests/compat tests/client \
	  $(addprefix tests/crash/test_,kill.py leases.py abuse.py giant.py full_disk.py damage.py) $(ARGS)

swarm: compiled ## simulate clusters under faults for MINUTES (10) on JOBS (1) processes
	@$(BIN)/chainfire sim swarm --minutes=$(or $(MINUTES),10) --jobs=$(or $(JOBS),1) $(ARGS)

faults: compiled ## RUNS (20) clusters of real processes under real faults, each run judged
	@$(BIN)/python -m tests.faults --runs=$(or $(RUNS),20) $(ARGS)

mutants: setup ## put historic bugs back, one by one, on JOBS (1) processes: does the simulator find them?
	@$(BIN)/python -m tests.sim.hunt --jobs=$(or $(JOBS),1) $(ARGS)

compat: setup ## stock etcd clients: etcdctl, and the suites that Python clients ship
	$(BIN)/python -m pytest tests/compat $(ARGS)
	$(BIN)/python -m tests.compat.suites

openapi: setup ## let schemathesis think up requests from /openapi.json
	$(BIN)/python -m tests.compat.suites.openapi $(ARGS)

fuzz: setup ## a live cluster under random calls, and every parser of foreign bytes under a coverage-guided fuzzer
	$(BIN)/python -m tests.fuzz.live
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' || \
	  { echo "atheris, the fuzzer, cannot be installed here; hypothesis tries the same parsers in make test"; exit 1; }
	$(BIN)/python -m tests.fuzz $(ARGS)

clean: ## remove .venv and what the tools left
	rm -rf $(VENV) native/target .pytest_cache .mypy_cache .ruff_cache .hypothesis build src/chainfire.egg-info
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
