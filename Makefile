# make demo: train, score, picture and export a small model on procedural images
# make test: the fast test suite; make test-slow: the rest; make lint: ruff and mypy
# make docs: the documentation as a site in build/site
PYTHON ?= python3
VENV ?= .venv
EXTRA ?= cpu
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRA)

.PHONY: install demo test test-slow test-all lint docs clean

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

test-all: test test-slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tfseg/ops tfseg/config tfseg/registry.py

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build *.egg-info
