# make figures: a virtual environment, every demo, figures/ and a table of errors.
# make test:    the same environment with the test tools, and the suite.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamps

.PHONY: figures test lint docs benchmarks clean

figures: $(STAMP)/core
	$(BIN)/python -m flows figures --out figures

test: $(STAMP)/test
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict flows

docs: $(STAMP)/docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

benchmarks: $(STAMP)/benchmarks
	$(BIN)/python -m tests.benchmarks

$(STAMP)/venv:
	$(PYTHON) -m venv .venv
	mkdir -p $(STAMP)
	touch $@

# Pins, so that torch is the CPU build and a figure looks the same everywhere.
PIP = $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

$(STAMP)/core: $(STAMP)/venv pyproject.toml constraints.txt
	$(PIP) -e '.[torch]'
	touch $@

$(STAMP)/test: $(STAMP)/core
	$(PIP) -e '.[torch,test]'
	touch $@

$(STAMP)/benchmarks: $(STAMP)/core
	$(PIP) -e '.[torch,benchmarks]'
	touch $@

$(STAMP)/lint: $(STAMP)/core
	$(PIP) -e '.[torch,lint]'
	touch $@

$(STAMP)/docs: $(STAMP)/core
	$(PIP) -e '.[torch,docs]'
	touch $@

clean:
	rm -rf .venv figures docs/_build docs/gallery docs/api/generated build dist
