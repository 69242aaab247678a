# Every everyday command of syncbridge. `make` alone lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv native servers clients test lint format demo bench clean
python := .venv/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

venv: .venv/complete ## Make the Python environment in .venv, as pinned in requirements.lock
.venv/complete: requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" scripts/install-python

native: .venv/native ## Build and install the optional native package
.venv/native: .venv/complete $(wildcard native/src/*) native/setup.py native/pyproject.toml
	@scripts/install-native

servers: ## Install MariaDB, Redis, PostgreSQL, memcached and gearmand, fetch MySQL into .cache, where they are missing
	@scripts/install-servers --mysql --compiler --gearmand --memcached --postgresql

clients: venv ## Install other people's Gearman clients, which the tests drive, into the system and .cache
	@scripts/install-clients

test: venv native servers clients ## Run all tests on real servers (ARGS="-k name" passes through to pytest)
	@$(python) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

lint: venv ## Check style and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: venv ## Put the code into its form
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

demo: venv ## Show a private MariaDB and its mirror in Redis, live (SECONDS=20 ends it by itself)
	@scripts/install-servers
	@.venv/bin/syncbridge demo $(if $(SECONDS),--seconds $(SECONDS))

bench: venv native servers ## Run every benchmark (20 minutes), write docs/performance.md; fails if a figure is under its floor
	@scripts/install-servers --benchmarks || echo "peers that are missing will be left out" >&2
	@$(python) benchmarks/report.py $(ARGS)

clean: ## Remove the Python environment, the fetched MySQL and all caches
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
