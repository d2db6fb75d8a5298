# Everything a contributor runs. Works with the make that macOS ships (3.81).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint writers bench clean

# The main job on a real example: core install only, no TensorFlow.
demo: .cache/demo/.installed
	@PATH="$(CURDIR)/.cache/demo/bin:$$PATH" sh examples/demo.sh

.cache/demo/.installed: pyproject.toml
	$(PYTHON) -m venv .cache/demo
	.cache/demo/bin/python -m pip install --quiet --disable-pip-version-check .
	touch $@

# Tests in an environment of their own, TensorFlow included.
test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group test --group framework
	touch $@

$(VENV)/.lint: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group lint
	touch $@

# Slow campaigns, on demand: remake the fixtures in their writers' environments; measure.
writers:
	$(PYTHON) tests/fixtures/writers.py

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .cache .venv build dist
