# Commands for set-up and development. `.venv/bin/geotag --help` lists all others.
.DEFAULT_GOAL := help
.PHONY: help demo up down test check lint faults soak lock clean
BIN := .venv/bin
export PYTHON

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Set everything up and geotag sample photographs, or your own: make demo PHOTOS=/some/folder
	@deploy/bootstrap.sh serve
	@$(BIN)/geotag demo $(if $(PHOTOS),"$(PHOTOS)")

up: ## Start the local stack
	@deploy/bootstrap.sh serve
	@$(BIN)/geotag up

down: ## Stop the local stack; its data stays
	@if [ -x $(BIN)/geotag ]; then $(BIN)/geotag down; fi

test: lint ## Lint, types, unit tests, and integration tests against real servers
	$(BIN)/pytest -m "not faults" -n 3 --durations=25

check: lint ## Lint, types, and the unit tests that need no torch, for everyday work
	$(BIN)/pytest tests/unit --without-torch -n 2

lint: ## Lint, format and types only
	@deploy/bootstrap.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: ## Long tests that kill and stop real servers
	@deploy/bootstrap.sh dev
	$(BIN)/pytest -m "faults and not soak"

soak: ## Geotag 2,000 objects on each broker with faults throughout
	@deploy/bootstrap.sh dev
	$(BIN)/pytest -m soak

.PHONY: docs
docs: ## Write docs/settings.md and docs/commands.md from the code
	@deploy/bootstrap.sh serve
	@$(BIN)/python -m geotag.documents

COMPILE = $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --no-header
lock: ## Pin the newest versions that fit pyproject.toml and requirements/*.in
	@deploy/bootstrap.sh dev
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --upgrade pyproject.toml --extra local -o requirements/serve.txt
	$(COMPILE) --upgrade pyproject.toml --extra local --group dev requirements/train.in -o requirements/dev.txt
	$(COMPILE) --upgrade requirements/triton.in -o requirements/triton.txt

clean: ## Stop the local stacks and delete their data
	@for data in .geotag .geotag-test; do \
	    if [ -d $$data ]; then deploy/bootstrap.sh serve && GEOTAG_DATA_DIR=$$data $(BIN)/python -m deploy.local.delete; fi; done
