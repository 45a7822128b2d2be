# Two commands do all the set-up on a fresh machine with Python 3.11 or newer:
#   make demo   the main job on sample data and a small real model
#   make test   every test
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check lint format model clean

demo: .venv/installed-train
	$(BIN)/tenbin demo --yes

# One thread a worker: two workers of two threads would wait for each other.
test check: export OMP_NUM_THREADS = 1

test: .venv/installed-dev model
	bash tests/setup.sh
	$(BIN)/python -m pytest -n 2 -m "not gpu"

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The quick half: what a commit must pass.
check: lint
	$(BIN)/python -m pytest -n 2 -m "not gpu and not model and not browser and not slow"

# The real model of the demo and of the tests marked `model`, into the user's cache.
model: .venv/installed-train
	$(BIN)/tenbin demo --fetch-only --yes

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tenbin needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed-train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[train]"
	touch $@

.venv/installed-dev: .venv/installed-train
	$(PIP) -e ".[train,xlsum,bleu,dev]"
	touch $@

clean:
	rm -rf .venv tenbin-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
