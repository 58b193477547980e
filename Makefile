# `make help` lists the targets. Everything is installed into .venv; nothing but Python 3.11, a C++ compiler
# and make is needed beforehand.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
# The pages' JavaScript is linted where Node is installed; nothing else needs it.
NPM    := $(shell command -v npm)
BIOME  := node_modules/.bin/biome

.DEFAULT_GOAL := help
.PHONY: help demo test aot bench simulations lint format docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## measure the demo suite (about 6 minutes) and write demo.html
	@$(BIN)/fuseproof run demo
	@$(BIN)/fuseproof report -o demo.html

# A process for each core; one that has no tests left takes some that another has not begun.
PYTEST_FLAGS ?= -n auto --maxprocesses 8 --dist worksteal

test: $(VENV)/.installed-dev ## run every test
	@$(BIN)/python -m pytest -q $(PYTEST_FLAGS)

# float16 takes the tiles of bfloat16, and float32 much the same on every GPU: what is left out here is compared
# with the budget by `fuseproof compile --target sm_80,sm_90,sm_100`. `make aot AOT_FLAGS=--update-budget` pins anew.
aot: $(VENV)/.installed-dev ## compile the Triton kernels for three GPUs, none needed, against their budget
	@$(BIN)/fuseproof compile --target sm_90 --dtype bfloat16,float32,float8_e4m3fn --quiet $(AOT_FLAGS)
	@$(BIN)/fuseproof compile --target sm_80,sm_100 --dtype bfloat16 --quiet $(AOT_FLAGS)

bench: $(VENV)/.installed-dev ## the demo suite through pytest-benchmark
	@$(BIN)/python -m pytest tests/bench

simulations: $(VENV)/.installed ## simulations with known truth behind the statistics (some minutes of one core)
	@$(BIN)/python tools/simulations.py

lint: $(VENV)/.installed-dev $(if $(NPM),node_modules/.installed) ## ruff, mypy, the order of imports; biome for JavaScript
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@found=$$($(BIN)/lint-imports --no-logo) || { echo "$$found"; exit 1; }
ifdef NPM
	@found=$$($(BIOME) check --error-on-warnings 2>&1) || { echo "$$found"; exit 1; }
else
	@echo "node not found: JavaScript not linted"
endif

format: $(VENV)/.installed-dev $(if $(NPM),node_modules/.installed) ## let ruff and biome format the code
	@$(BIN)/ruff format .
ifdef NPM
	@$(BIOME) format --write
endif

docs: $(VENV)/.installed-docs ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean: ## remove the environment, the runs and the caches
	rm -rf $(VENV) node_modules .fuseproof .benchmarks .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
	    site demo.html

$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer not found; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing PyTorch, JAX, TensorFlow and Fuseproof into $(VENV) (a few minutes, about 5 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

# The package itself without its frameworks: the commands print their help, and the sources are read, not imported.
$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

node_modules/.installed: package.json package-lock.json
	@npm ci --silent
	@touch $@
