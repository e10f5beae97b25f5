# `make` lists the targets. README says what to type where make is missing.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/demo.installed  ## Create the environment and serve the demo on http://127.0.0.1:7860
	$(BIN)/python app.py

test: .venv/test.installed  ## Create the environment and run every test
	@# Two at a time: many wait for a browser, a server or another process. Threads that share busy cores spin: one each.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/test.installed  ## Lint, check the format, the types and the directions of imports
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	PYTHONPATH=. $(BIN)/lint-imports --no-cache
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or later: make demo PYTHON=python3.12, say.")'
	$(PYTHON) -m venv .venv

.venv/demo.installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/test.installed: requirements.txt requirements-scale.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	scripts/install_test_tools.sh
	touch $@ .venv/demo.installed
