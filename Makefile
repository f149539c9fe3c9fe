# `make demo` and `make test` do all the set-up themselves; everything lands in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= tauzero-demo
JOBS ?= 2
# One BLAS/OpenMP thread per test process: two processes on two cores, none waiting for the other.
SINGLE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# The install is editable, so that tests and demo run against the source; tests/test_packaging.py
# builds a real wheel and looks into it. The constraints keep pip from pulling an unpinned torch.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-fast browser gate lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.installed-demo ## install, then run the main job on the real NAS-Bench-201 table (OUT=folder)
	$(BIN)/tauzero demo --out "$(OUT)"

test: $(VENV)/.installed-test ## install what the tests need, then run them all (JOBS=processes)
	$(SINGLE_THREAD) $(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-test ## the tests that take at most a few seconds each
	$(SINGLE_THREAD) $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(PYTEST_ARGS)

# A browser is nothing that pip installs, and nothing that `make test` should put on somebody's machine unasked.
browser: ## a Chromium for the tests of reports, where there is none and apt can install it (needs root)
	@if command -v chromium chromium-browser google-chrome >/dev/null; then \
	  echo "a browser is there"; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else \
	  echo "no browser, and no apt-get as root to install one: the tests that need it are skipped" >&2; \
	fi

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gate: lint ## lint, the layers between the rooms and the contents of the wheel
	$(SINGLE_THREAD) $(BIN)/python -m pytest tests/test_architecture.py tests/test_packaging.py

format: $(VENV)/.installed-dev ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove everything that the other targets make
	rm -rf $(VENV) build dist tauzero.egg-info tauzero-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tauzero needs Python 3.11 or newer. Got $$($(PYTHON) --version): run make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Order-only: a python that is newer than the stamp file is no reason to install again.
$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[nasbench201]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[nasbench201,test]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[nasbench201,test,dev]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed-demo
