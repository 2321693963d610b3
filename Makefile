PYTHON ?= python3
BIN := .venv/bin

.PHONY: study test lint bench clean
.DELETE_ON_ERROR:

study: .venv/installed  ## install, run the quickstart study, write its report
	$(BIN)/fierce run quickstart
	$(BIN)/fierce report quickstart

test: .venv/installed-test  ## install the test extras and pass the tests
	$(BIN)/python -m pytest

lint: .venv/installed-dev  ## formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed  ## the benchmarks of benchmarks/README.md
	$(BIN)/python -m benchmarks.all

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:  ## remove what the targets above made, studies excepted
	rm -rf .venv build *.egg-info
