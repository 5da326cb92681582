# Everything happens in .venv and in the user's cache; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CODE := schemas streams services tests $(wildcard benchmarks examples docs/site) deploy/standins deploy/image
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
ONLY ?=
SITE := build/docs
DEMO ?=
# two workers on two cores: with three, what has real parts waits for a turn until its patience ends.
# A file is one worker's, in the order of tests/conftest.py
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
PURE := tests/contract tests/scenario tests/simulation tests/unit
# whole demos take both cores: they run after the rest, by themselves
DEMOS := tests/faults/test_demo.py tests/faults/test_demo_signals.py
# what has no real parts takes what the others leave of the cores: a session is one to the scheduler
# (man 7 sched, autogroup), and this one comes last. What it says is shown when it has ended
APART := build/apart.log
apart = exec setsid --wait sh -c '{ echo 19 > /proc/self/autogroup; } 2>/dev/null; exec nice -n 19 $(MAKE) -s static pure'
every_test = mkdir -p build; ( $(apart) ) > $(APART) 2>&1 & apart=$$!; trap "kill -- -$$apart; exit 130" INT TERM; \
	$(BIN)/pytest $(WORKERS) tests $(patsubst %,--ignore=%,$(PURE) $(DEMOS)); real=$$?; \
	wait $$apart; apart=$$?; cat $(APART); \
	$(BIN)/pytest $(DEMOS) && exit $$((real + apart))

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-long check static pure parts bench shots lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "everlode needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

setup: $(READY) ## Make .venv from the hash-locked dependencies

demo: setup ## Run the main job on a real three-region stack, to a report; DEMO="--speed 60" for options
	$(BIN)/everlode demo $(DEMO)

docs: setup ## Build the site, strictly: build/docs/docs/index.html
	$(BIN)/python -m sphinx -qnW --keep-going -j auto -c docs/site -d build/doctrees . $(SITE)
	@echo $(SITE)/docs/index.html

static: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

check: static ## Lint, types, import contracts, tests without real parts (under a minute)
	$(BIN)/pytest -q -n 2 $(wildcard tests/unit tests/contract tests/scenario)

pure: setup
	$(BIN)/pytest -q --timeout 900 $(PURE)

parts: setup ## Fetch, check and build the parts of the native stack
	$(BIN)/everlode stack fetch

test: parts ## Lint, types, import contracts and every test there is, on real parts
	$(every_test)

test-long: parts ## The same, with twenty times as many examples, and every damage, moment and seed
	export LONG_TESTS=1; $(every_test)

bench: setup ## Benchmarks, each against a peer or a limit; ONLY=name for one
	$(BIN)/python -m benchmarks $(ONLY)
	$(BIN)/python -m benchmarks._document

shots: parts ## Make the docs' pictures of the page anew
	SHOTS=docs/images $(BIN)/pytest -q -n 0 tests/integration/test_serve.py -k "node_that_is_killed"

lock: setup ## Renew the lock files from pyproject.toml
	@test -x $(VENV)/lock/bin/uv || { $(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv==0.13.9; }
	$(VENV)/lock/bin/uv pip compile $(LOCK) -o requirements-sdk.lock pyproject.toml
	$(VENV)/lock/bin/uv pip compile $(LOCK) --extra native -o requirements.lock pyproject.toml
	$(VENV)/lock/bin/uv pip compile $(LOCK) --extra dev -o requirements-dev.lock pyproject.toml
	$(VENV)/lock/bin/uv pip compile $(LOCK) --extra image -c requirements-dev.lock -o requirements-image.lock pyproject.toml

clean: ## Remove .venv and the caches of this work tree
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
