# Everything sets itself up: a machine with Python 3.11+ and make is enough.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
UV_VERSION := 0.13.9

.PHONY: help demo test check static coverage proofs bench bench-budget engine e2e docs lock clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## the whole system on the embedded cloud; ARGS="--set maxGpuInstances=2 --stack staging"
	@$(BIN)/python -m gpufleet demo $(ARGS)

test: $(VENV)/.installed ## the tests (no account, no network)
	@$(BIN)/python -m pytest -n 2 $(ARGS)

check: static coverage ## everything a change must pass: format, lint, types, imports, shell, workflows, tests, coverage

static: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	PYTHONPATH=.:lambda:bootstrap $(BIN)/lint-imports --config pyproject.toml
	$(BIN)/shellcheck --severity=style .ci/run tools/engine/build.sh
	$(BIN)/zizmor --offline --quiet .github/workflows

coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --cov --cov-branch --cov-report=term --cov-fail-under=90

proofs: $(VENV)/.installed ## what takes long to prove: days of virtual time on the embedded cloud, searches
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m long $(ARGS)

bench: $(VENV)/.installed ## the scaling law against other policies on real traces, into docs/; ARGS="--law-only" for a table in minutes
	@$(BIN)/python benchmarks/policies.py $(ARGS)

bench-budget: $(VENV)/.installed ## the budget's promise, scenario by scenario, into docs/; ARGS="--only full-load" for one of them
	@$(BIN)/python benchmarks/budget.py $(ARGS)

engine: ## the Pulumi CLI for e2e: the one on PATH, else one built with Go (once: five minutes)
	@tools/engine/build.sh

e2e: engine $(VENV)/.installed ## the real Pulumi engine drives the embedded cloud
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m engine $(ARGS) tests/e2e

docs: $(VENV)/.installed ## regenerate what is generated: configuration reference, stack schema, README table, golden graphs
	$(BIN)/python -m gpufleet docs-config

lock: $(VENV)/.installed ## pin the dependencies anew (hashes, no registry addresses)
	$(BIN)/uv pip compile -q pyproject.toml --universal --no-header --generate-hashes --no-emit-index-url --no-annotate -o requirements.txt
	$(BIN)/uv pip compile -q pyproject.toml --universal --extra gpufleet --group dev --no-header --generate-hashes --no-emit-index-url --no-annotate -o requirements-dev.txt

clean: ## remove the environment and every cache
	rm -rf $(VENV) .cache .demo .pytest_cache .ruff_cache .hypothesis

# One line says what is missing, instead of a traceback from the middle of the installation.
$(VENV)/.installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "This needs Python 3.11 or newer as $(PYTHON); name another one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is missing: install it first (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@printf '%s\n' '#!/bin/sh' 'here=$$(cd "$$(dirname "$$0")/../.." && pwd)' \
		'PYTHONPATH="$$here" exec "$$here/.venv/bin/python" -m gpufleet "$$@"' > $(BIN)/gpufleet
	@chmod +x $(BIN)/gpufleet
	@touch $@
