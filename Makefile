# Two commands matter: `make serve` and `make test`. Both create the environment that they need.
# `make help` lists the targets; the text after each `##` is what it prints.

PYTHON ?= python3
DEVICE ?= cpu
MODEL  ?=
PORT   ?=
ARGS   ?=
HOST   :=
# HOST ignores the environment, where some shells put the machine's name.

VENV := $(if $(filter cpu,$(DEVICE)),.venv,.venv-$(DEVICE))
BIN  := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install serve test lint format lock generated demo-checkpoint bench bench-training soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## create the environment: .venv, or .venv-cuda with DEVICE=cuda
	@$(PYTHON) scripts/install.py --device $(DEVICE)

serve: install ## start the server; MODEL=, DEVICE=cpu|cuda, HOST=, PORT=, ARGS="any other flag"
	$(BIN)/metaalign-server serve $(if $(MODEL),--model '$(MODEL)') $(if $(HOST),--host '$(HOST)') $(if $(PORT),--port '$(PORT)') $(ARGS)

test: lint ## run the linters and all tests; ARGS="-k word" goes to pytest
	$(BIN)/python -m pytest $(ARGS)

lint: install ## check style, types, import boundaries and the environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python scripts/check_environment.py --device $(DEVICE)

format: install ## put imports in order and format the code
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

lock: ## write requirements/*.lock anew, keeping the pins that fit; ARGS=--upgrade moves them
	@$(PYTHON) scripts/lock.py $(ARGS)

generated: install ## write the files that come from code: JSON Schema, OpenAPI document, page of errors
	$(BIN)/python -m metaalign.schema docs/preferences.schema.json
	$(BIN)/python scripts/errors_page.py docs/errors.md
	$(BIN)/python scripts/openapi_document.py clients/openapi.json

fuzz: install ## ask a server what its OpenAPI document promises and forbids; ARGS="--max-time 600 --seed 7"
	$(BIN)/python -m tests.server.test_openapi $(ARGS)

demo-checkpoint: install ## train checkpoints/metaalign-demo by the recipe that made it
	$(BIN)/metaalign-train run demo --out checkpoints/metaalign-demo $(ARGS)

bench: install ## measure what preferences cost in serving
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-training: install ## measure SFT and DPO against a plain TRL script on the same rows
	$(BIN)/python -m benchmarks.training $(ARGS)

soak: install ## 15 minutes of mixed load: memory, files, tasks and connections must stay flat; ARGS="--minutes 5"
	$(BIN)/python -m benchmarks.soak $(ARGS)

clean: ## remove the environments, caches and build results
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find clients server training tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
