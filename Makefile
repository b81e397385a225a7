# make demo: train, score, picture and export a small model on procedural images
# make test: the fast test suite; make test-slow: the rest; make lint: ruff and mypy
# make test-beam: those of Apache Beam's pipelines
# make docs: the documentation as a site in build/site
PYTHON ?= python3
VENV ?= .venv
EXTRA ?= cpu
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRA)
BEAM := $(CURDIR)/.beam

.PHONY: install demo test test-slow test-beam test-all lint docs clean

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA),test,dev]'
	# Alone: it asks for the package tensorflow, where tensorflow-cpu provides the same module.
	$(BIN)/python -m pip install --quiet --no-deps 'tensorflow-serving-api>=2.21'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m slow

# Apart: it wants older releases of protobuf and Pillow than the rest is tested with.
$(BEAM)/.installed: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --upgrade --target $(BEAM) 'apache-beam>=2.77'
	touch $@

test-beam: $(BEAM)/.installed
	PYTHONPATH=$(BEAM) $(BIN)/python -m pytest -n 0 tests/beam

test-all: test test-slow test-beam

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tfseg/ops tfseg/config tfseg/registry.py

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(BEAM) build *.egg-info
