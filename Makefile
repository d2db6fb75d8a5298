# Everything a contributor runs. Works with the make that macOS ships (3.81).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# What the tests run on: the source tree, or a wheel. And the framework; other machines than x86-64 Linux have no -cpu.
PACKAGE ?= --editable .
FRAMEWORK ?= $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),tensorflow-cpu,tensorflow)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint protos writers matrix bench crashes big-release fuzz savedmodels locks clean

# The main job on a real example: core install only, no TensorFlow.
demo: .cache/demo/.installed
	@PATH="$(CURDIR)/.cache/demo/bin:$$PATH" sh examples/demo.sh

.cache/demo/.installed: pyproject.toml $(wildcard tfstrip_core/*.py tfstrip_core/*/*.py tfstrip_core/*/*/*.py)
	$(PYTHON) -m venv .cache/demo
	.cache/demo/bin/python -m pip install --quiet --disable-pip-version-check .
	touch $@

# Tests in an environment of their own, TensorFlow included.
test: $(VENV)/.test
	PATH="$(abspath $(BIN)):$$PATH" TFSTRIP_INSTALLED=$(TFSTRIP_INSTALLED) $(BIN)/pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) "pip>=25.1"
	$(PIP) $(PACKAGE) --group test "$(FRAMEWORK)"
	touch $@

$(VENV)/.lint: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) "pip>=25.1"
	$(PIP) --editable . --group lint
	touch $@

# The generated modules, anew: by the compiler whose output runs on protobuf 4.25 and on all later ones. Needs Python 3.10 to 3.12.
protos:
	$(PYTHON) -m venv .cache/protos
	.cache/protos/bin/python -m pip install --quiet --disable-pip-version-check "grpcio-tools==1.62.3" "setuptools<81"
	.cache/protos/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tfstrip_core/codecs/protos/*.proto

# Slow campaigns, on demand: remake the fixtures in their writers' environments; measure.
writers:
	$(PYTHON) tests/fixtures/writers.py
	$(PYTHON) tests/fixtures/tfjs.py

# Every fixture, stripped, in the environment that wrote it. WRITERS names some of them.
matrix: $(VENV)/.test
	$(BIN)/python tests/matrix.py $(WRITERS)

bench: $(VENV)/.test
	$(PIP) --no-deps tf_keras
	$(BIN)/python benchmarks/run.py

crashes: $(VENV)/.test
	TFSTRIP_CRASH_STEP=1 $(BIN)/pytest tests/test_journal.py tests/test_saved_place.py tests/test_saved_target.py tests/test_keras_place.py -k at_any_line

# A model of 3 GiB in parts to a release and back; needs 10 GB of disk.
big-release: $(VENV)/.test
	$(BIN)/python tests/big_release.py

fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz.py

# SavedModels of every kind, stripped and run under every loader. WRITER is the Python of another TensorFlow to write them.
WRITER ?= $(BIN)/python
savedmodels: $(VENV)/.test
	rm -rf .cache/saved_models
	CUDA_VISIBLE_DEVICES=-1 TF_ENABLE_ONEDNN_OPTS=0 $(WRITER) tests/fixtures/saved_models.py --any .cache/saved_models
	$(BIN)/python tests/saved_model_campaign.py .cache/saved_models

# What the images hold, pinned with hashes.
LOCK = $(VENV)/bin/uv pip compile --quiet --no-config --upgrade --generate-hashes --no-emit-index-url \
	--python-version 3.12 --python-platform x86_64-manylinux_2_36 --custom-compile-command "make locks" pyproject.toml
locks: $(VENV)/.lint
	$(PIP) uv
	$(LOCK) --extra action .github/requirements/action.in --output-file .github/requirements/action.txt
	$(LOCK) .github/requirements/check.in --output-file .github/requirements/check.txt

clean:
	rm -rf .cache .venv build dist
