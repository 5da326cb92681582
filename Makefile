# Everything happens in .venv and in the user's cache; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ONLY ?=
DEMO ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long check bench lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "everlode needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

setup: $(READY) ## Make .venv from the hash-locked dependencies

demo: setup ## Run the main job on a real three-region stack, to a report
	$(BIN)/everlode demo $(DEMO)

check: setup ## Lint, types, import contracts, pure tests (under a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy schemas streams services tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 tests/unit tests/contract tests/scenario

test: check ## Every test there is, on real parts
	$(BIN)/pytest tests/simulation tests/integration tests/faults

test-long: test ## The tests again, with the long rounds
	EVERLODE_LONG=1 $(BIN)/pytest tests/simulation tests/integration tests/faults

bench: setup ## Benchmarks, each against a peer or a limit; ONLY=name for one
	$(BIN)/python -m benchmarks $(ONLY)

lock: ## Renew requirements.lock from pyproject.toml
	$(BIN)/python -m piptools compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
		--strip-extras --allow-unsafe --no-header --no-annotate --extra dev -o requirements.lock pyproject.toml

clean: ## Remove .venv and caches of this work tree
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
