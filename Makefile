# Two commands do all the set-up on a fresh machine with Python 3.11 or newer:
#   make demo   the main job on sample data and a small real model
#   make test   every test
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-gpu check lint format model clean

demo: .venv/installed-train
	$(BIN)/tenbin demo --yes

# One thread a worker: two workers of two threads would wait for each other.
test check: export OMP_NUM_THREADS = 1

test: .venv/installed-dev model
	bash tests/setup.sh
	$(BIN)/python -m pytest -n 2 -m "not gpu"

# On a machine with a GPU. Two tests read what the driver shows of the whole GPU: nothing else may run then.
ALONE := driver_shows or cap_holds
test-gpu: export OMP_NUM_THREADS = 2
test-gpu: .venv/installed-dev
	$(PIP) -e ".[train,nf4]"
	$(BIN)/python -m pytest -n 8 -m gpu tests/gpu -k "not ($(ALONE))"
	$(BIN)/python -m pytest -m gpu tests/gpu -k "$(ALONE)"

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
