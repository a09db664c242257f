# `make demo` and `make test` need Python 3.11 or newer, git and make; everything else goes into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One thread per test process: toy sizes gain nothing from more, and two processes share two cores better.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
WORKERS ?= 2

.PHONY: demo test test-slow check lint types layers format picture clean
.NOTPARALLEL:

demo: .venv/installed
	@$(BIN)/daguerre generate "a red apple, 3d render" --seed 1 --out outputs/

test: lint types layers
	$(PYTEST) -m "not slow" --numprocesses $(WORKERS) --dist loadfile

test-slow: .venv/installed-dev
	$(PYTEST) -m slow --timeout 3600

check: lint types layers
	$(PYTEST) -m "not slow" --numprocesses $(WORKERS) --dist loadfile --ignore tests/parity

lint: .venv/installed-dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: .venv/installed-dev
	$(BIN)/mypy

layers: .venv/installed-dev
	$(BIN)/lint-imports --no-logo

format: .venv/installed-dev
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

picture: .venv/installed
	$(BIN)/python docs/draw_architecture.py

clean:
	rm -rf .venv outputs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch before all else: a CPU build that is at hand then satisfies everything that asks for torch.
.venv/installed: constraints.txt pyproject.toml
	@echo "Installing into .venv, once (about 1 GB, mostly torch) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(INSTALL) torch setuptools
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

# k-diffusion without its dependencies: one of them, torchvision, has no CPU build, and its samplers need none of it.
.venv/installed-dev: .venv/installed
	@echo "Installing the tools and the reference implementations that the tests compare with ..."
	@$(INSTALL) --no-build-isolation --editable ".[train,data,evaluate,tagger,dev,reference]"
	@$(INSTALL) --no-deps k-diffusion
	@touch $@
