# Everything a developer or an operator does here. Needs Python 3.11 or newer and make; the rest it brings itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
BUF := PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/buf
CLIENTS_VENV := .venv-clients
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
PACKAGES := shared trainer_service inference_service client

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp's name carries nothing: it is remade when the locked dependencies or the package's description change.
$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(RUN) tools/bring_redis.py
	@touch $@

# uv and not pip: a tenth of the time, for these are many packages.
$(CLIENTS_VENV)/.installed: requirements/clients.txt $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(RUN) $(CLIENTS_VENV)
	$(BIN)/uv pip install --quiet --python $(CLIENTS_VENV)/bin/python --require-hashes -r requirements/clients.txt
	@touch $@

# install and not ci: ci wants every platform's package in the lock, and buf does not publish all that it lists.
node_modules/.installed: package.json package-lock.json $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --no-save --silent --ignore-scripts
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Makes the virtual environment with the locked dependencies

.PHONY: demo
demo: setup ## Trains on MNIST, serves it, swaps a second version in under load; says what held
	$(BIN)/weightcast demo

.PHONY: up
up: setup ## Runs Redis and both services on this machine until Ctrl-C
	$(BIN)/weightcast up

.PHONY: test
# Bytecode is kept, whatever the environment says: the tests start hundreds of processes.
test: setup ## Runs every test but those of compose and of foreign clients
	PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest --ignore=tests/compose --ignore=tests/clients --numprocesses 3 --dist loadfile $(PYTEST_ARGS)

.PHONY: test-clients
test-clients: setup $(CLIENTS_VENV)/.installed ## Runs the product and uses it with foreign clients of the Open Inference Protocol
	$(RUN) tools/try_foreign_clients.py --python $(CLIENTS_VENV)/bin/python $(PYTEST_ARGS)

.PHONY: test-compose
test-compose: setup ## Builds the images, brings them up with docker compose, and uses them
	$(RUN) -m pytest tests/compose -s $(PYTEST_ARGS)

.PHONY: soak
soak: setup ## Runs what takes longer than a test may: thousands of hot swaps under load, fifty jobs in chaos, a minute without Redis
	WEIGHTCAST_SOAK=1 $(RUN) -m pytest -m soak -s $(PYTEST_ARGS)

.PHONY: check
check: lint typecheck protos-check test ## Everything CI asks for but the tests of foreign clients and of compose

.PHONY: lint
lint: setup ## Checks format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: format
format: setup ## Formats and fixes what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: typecheck
typecheck: setup ## Checks types, strictly
	$(BIN)/mypy

.PHONY: protos
protos: setup ## Regenerates shared/pb from protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(RUN) protos/generate.py 2> /dev/null

.PHONY: protos-check
protos-check: setup node_modules/.installed ## Lints the contract and checks that shared/pb is generated from it
	$(BUF) lint protos
	$(BUF) format --diff --exit-code protos
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	PATH="$(CURDIR)/$(BIN):$$PATH" $(RUN) protos/generate.py --output "$$fresh/pb" 2> /dev/null; \
	diff -r --exclude=__pycache__ "$$fresh/pb" shared/pb || { echo "shared/pb is not what protos/ gives; run: make protos" >&2; exit 1; }

.PHONY: bench
bench: setup ## Measures the time from publishing to the first answer; writes benchmarks/results/
	$(RUN) benchmarks/publish_to_answer.py

# Both want the peers of the `bench` extra: in this environment, or in another one that PEERS_PYTHON names.
PEERS_PYTHON ?= $(RUN)

.PHONY: bench-training
bench-training: setup ## Measures the training engine beside PyTorch, Keras, scikit-learn and its own limit
	$(PEERS_PYTHON) -m benchmarks.training $(BENCH_ARGS)

.PHONY: bench-serving
bench-serving: setup ## Measures the inference service beside bare grpcio; needs h2load and two cores
	$(RUN) -m benchmarks.serving $(BENCH_ARGS)

.PHONY: bench-overload
bench-overload: setup ## Measures the inference service at twice the rate it can take; needs h2load and two cores
	$(RUN) -m benchmarks.overload $(BENCH_ARGS)

.PHONY: bench-accuracy
bench-accuracy: setup ## Trains every preset on MNIST with five seeds; takes an hour
	$(RUN) benchmarks/accuracy.py $(BENCH_ARGS)

.PHONY: bench-alternatives
bench-alternatives: setup ## Measures choices of the training engine beside what they were chosen over
	$(RUN) benchmarks/alternatives.py $(BENCH_ARGS)

.PHONY: test-peers
test-peers: setup ## Checks that PyTorch, from the same weights and batches, comes to the same losses
	PYTHONPATH="$(CURDIR)" $(PEERS_PYTHON) -m pytest tests/peers $(PYTEST_ARGS)

.PHONY: lock
lock: setup ## Resolves and pins every dependency again
	for role in dev trainer inference; do \
	  $(LOCK) --extra $$role --output-file requirements/$$role.txt pyproject.toml; \
	done
	$(LOCK) --output-file requirements/clients.txt requirements/clients.in

.PHONY: clean
clean: ## Removes what the other targets made
	rm -rf $(VENV) $(CLIENTS_VENV) node_modules build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results
	find $(PACKAGES) tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
