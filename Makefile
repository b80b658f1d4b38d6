# Run `make help` for the list. Every target that needs the environment sets it up first.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
PIP    := $(PYTHON) -m pip --python $(PY) --disable-pip-version-check
PIP_OPTIONS := --quiet --no-input --no-deps --no-warn-script-location --root-user-action=ignore

TESTS := $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder
COVERAGE ?=
COVERED := $(if $(COVERAGE),--cov=course_lib --cov-report=html:build/coverage --cov-report=term:skip-covered)

# Where bytecode is kept, each of the hundreds of processes of a run starts in half the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help lab test quick soak setup linters build lint format bench proof lines lock upgrade clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(STAMP) ## set everything up and open JupyterLab on "Start here"
	@$(PY) -m course_lib.cli lab

test: setup ## set everything up and prove the project: code, exercises, browser, notebooks
	@$(TESTS) $(COVERED) --doctest-modules tests course_lib

quick: setup ## while editing, under a minute: no browser, no notebook, no server that is killed
	@$(TESTS) --quick tests

soak: setup ## the long forms of the tests: many kills, long fuzzing, big sweeps (weekly, before a release)
	@$(PY) -m pytest -m soak tests

setup: $(STAMP) ## virtual environment from the lock file, kernel, your copies of the notebooks
	@$(PY) -m course_lib.cli setup

# The stamp is written last: an interrupted run is simply done again. The environment is made without
# ensurepip, which Debian keeps in a package of its own; the outer pip installs into it.
$(STAMP): requirements.lock pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here; install Python 3.12, or name yours: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else \
	    "make: $(PYTHON) is Python %d.%d; the course needs 3.11, 3.12 or 3.13. Try: make PYTHON=python3.12 %s" % (v[0], v[1], "$(MAKECMDGOALS)"))'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "make: $(PYTHON) has no pip; on Debian: apt install python3-pip" >&2; exit 1; }
	@if [ -d $(VENV) ] && ! $(PY) -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then \
	    echo "make: $(VENV) is unfinished or its Python is gone; making it anew"; rm -rf $(VENV); fi
	@rm -f $(STAMP)
	@[ -x $(PY) ] || { echo "Making the virtual environment in $(VENV)"; $(PYTHON) -m venv --without-pip $(VENV); }
	@echo "Installing the locked packages into $(VENV) (a minute or two the first time)"
	@$(PIP) install $(PIP_OPTIONS) --require-hashes -r requirements.lock
	@$(PIP) install $(PIP_OPTIONS) --no-build-isolation --editable .
	@touch $(STAMP)

# Their own environment: they need other versions than the course does.
linters: setup ## checkov and compose-lint, which judge deploy/ (200 MB in build/; its tests are skipped without)
	@$(VENV)/bin/uv venv --quiet --allow-existing --python $(PY) build/linters
	@$(VENV)/bin/uv pip sync --quiet --python build/linters --require-hashes tests/deploy/linters.lock

build: setup ## rebuild notebooks/ and solutions/ from lessons/ (edit lessons, not notebooks), and the dashboard
	@$(PY) -m course_lib.deployment.dashboards
	@$(PY) -m course_lib.cli build --execute

lint: setup ## ruff, format, types; layers, faces, names of DSPy, headings; freshness of what is built
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/test_layers.py tests/test_faces.py tests/test_api_names.py tests/notebooks/test_readable.py
	@$(PY) -m course_lib.cli build --check

format: setup ## let ruff mend what it can: layout, order of imports, simple findings
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: setup ## speed, as ratios to peers measured in the same run
	@$(PY) -m bench

proof: setup ## the proof of every exercise from four sides
	@$(PY) -m course_lib.cli proof

lines: setup ## the rooms of the library: budgets and today's lines
	@$(PY) -m tests.house

# Without --upgrade, uv keeps every version of the lock file that pyproject.toml still admits.
LOCK = $(VENV)/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
    --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock

lock: setup ## requirements.lock after a change of pyproject.toml; with PACKAGE=name, that one anew
	@$(LOCK) $(if $(PACKAGE),--upgrade-package $(PACKAGE))

upgrade: setup ## every package of requirements.lock at its newest
	@$(LOCK) --upgrade

clean: ## remove the environment and caches; your work/ stays
	@rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
