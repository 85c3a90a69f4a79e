# The two commands of a newcomer: `make demo` and `make test`. Each sets everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
SCALE ?= smoke
OPTIONS ?=
EXTRAS ?= onnx,node

test test-slow: export PYTHONDONTWRITEBYTECODE = # tests start many processes, which need not compile everything anew

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY) ## Standardize a CT with a model that ships; show the report
	@$(BIN)/python data/demo.py

test: $(READY) ## Run the fast tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(READY) ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m slow

reproduce: $(READY) ## Repeat the paper's experiment; SCALE=smoke, ablation, laptop or paper
	@$(BIN)/python benchmarks/reproduce.py --scale=$(SCALE) --output_dir=reproduction/$(SCALE) $(OPTIONS)

bench: $(READY) ## Measure the speed beside peers; pip install -e '.[bench]' first for all of them
	@$(BIN)/python benchmarks/speed.py $(OPTIONS)

fuzz: $(READY) ## Ten minutes of damaged input: files, archives, models, and conversations with a node
	@$(BIN)/python benchmarks/fuzz.py $(OPTIONS)

lint: $(READY) ## Check style and types, and look for known vulnerabilities of dependencies
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python benchmarks/audit.py

wheels: $(READY) ## Wheels for a machine without a network; EXTRAS=onnx,node
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir wheels '.[$(EXTRAS)]'
	@cd wheels && sha256sum *.whl > SHA256SUMS && ls *.whl | wc -l

install: $(READY) ## Set up .venv

clean: ## Remove what make made, but the real CT
	rm -rf $(VENV) demo_output .pytest_cache .ruff_cache .hypothesis *.egg-info

$(READY): setup.py pyproject.toml
	@echo "Setting up $(VENV) (once; TensorFlow is large, so this takes a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "STAN-CT needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' || \
	  { echo "Installing failed, see above: the package index must be reachable (PyPI, or PIP_INDEX_URL)"; exit 1; }
	@touch $(READY)
	@echo "Ready."

.PHONY: help demo test test-slow reproduce bench fuzz lint wheels install clean
