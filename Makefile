PYTHON ?= python3
# tests often wait for processes that they start, which share the cores
WORKERS ?= 2
BIN := .venv/bin
COMPOSE := cd docker && docker compose

.PHONY: study test test-thorough test-gpu quick lint hooks bench clean up down logs secrets test-docker test-faults test-slurm lock audit
.DELETE_ON_ERROR:

study: .venv/installed  ## install, run the quickstart study, write its report
	$(BIN)/fierce run quickstart
	$(BIN)/fierce report quickstart

test: .venv/installed-test  ## install the test extras and pass the tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not thorough"

test-thorough: .venv/installed-test  ## the tests that take longest: clusters, kills and whole studies
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m thorough

test-gpu: .venv/installed-test  ## the tests that need a GPU
	$(BIN)/python -m pytest tests/gpu

quick: lint .venv/installed-test  ## lint, types and the tests that start no Ray and no server
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not ray and not server and not slow and not thorough and not docker"

lint: .venv/installed-dev  ## formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

hooks: .venv/installed-dev  ## check each commit: whitespace, private keys, spelling, lint
	$(BIN)/pre-commit install

bench: .venv/installed  ## the benchmarks of benchmarks/README.md
	$(BIN)/python -m benchmarks.all

secrets:  ## make the passwords and tokens of the service that are missing, in secrets/
	@docker/secrets.sh

up: secrets  ## build and start the service, wait until it is healthy, say where it is
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait --wait-timeout 900
	@docker/addresses.sh

down:  ## stop the service; studies, databases and artifacts stay in its volumes
	$(COMPOSE) down

logs:  ## follow the service's logs
	$(COMPOSE) logs --follow --tail 100

lock: .venv/bin/python  ## renew the versions that the image is built from
	$(BIN)/python docker/lock.py > docker/requirements.part
	mv docker/requirements.part docker/requirements.txt

audit: .venv/installed-dev  ## look for known weaknesses of these versions, in PyPI's advisories
	$(BIN)/pip-audit --requirement docker/requirements.txt --no-deps --disable-pip

test-docker: .venv/installed-test  ## bring the service up beside any other, run a study on it, check it, take it away
	FIERCE_TEST_DOCKER=1 $(BIN)/python -m pytest -m docker -s tests/docker

test-faults: .venv/installed-test  ## do harm to a running service, as root, and write the table of docs/faults.md
	FIERCE_TEST_FAULTS=1 $(BIN)/python -m pytest -s tests/faults

test-slurm: .venv/installed-test  ## preempt a study on a Slurm of two nodes, as root (Debian: slurm-wlm munge iproute2)
	FIERCE_TEST_SLURM=1 $(BIN)/python -m pytest tests/study/service/test_slurm_preempted.py

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
