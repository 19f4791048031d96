# The environment is .venv; `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

.PHONY: fuzz help install install-dev demo textbook test test-slow mutate lint bench docs clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-mutate: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[mutate]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

install: $(VENV)/.installed  ## the library, into .venv
install-dev: $(VENV)/.installed-dev  ## and what its tests need

demo: $(VENV)/.installed  ## train VAEs on pictures that it draws itself, evaluate them, write a page: two to five minutes
	$(BIN)/tightbound demo

textbook: $(VENV)/.installed-dev  ## run the textbook's notebook, and keep it with its figures: runs/textbook.ipynb
	@mkdir -p runs
	@cp notebooks/textbook.ipynb runs/textbook.ipynb
	$(BIN)/jupyter execute --inplace runs/textbook.ipynb

test: $(VENV)/.installed-dev  ## the whole test suite
	$(BIN)/python -m pytest -n 2

SECONDS ?= 3600
SEED ?= $(shell date +%s)

fuzz: $(VENV)/.installed-dev  ## hostile and unlucky tries for an hour: arrays, files, folders, several at once, signals
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py $(SECONDS) $(SEED)

test-slow: $(VENV)/.installed-dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

mutate: $(VENV)/.installed-mutate  ## change the core in 3000 ways: which fail no test? An hour; less with ONLY='tightbound.bounds*'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2 $(if $(ONLY),'$(ONLY)')
	@$(BIN)/mutmut results | sed -n 's/^ *\(.*\): survived$$/\1/p' | xargs -n 1 $(BIN)/mutmut show

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

BENCHMARKS := startup training_throughput evaluation iwae_cost processes growth mapped time_to_quality

bench: $(VENV)/.installed  ## side-by-side timings, half an hour; needs MNIST, and a machine that does nothing else
	@set -e; for file in $(BENCHMARKS); do $(BIN)/python benchmarks/$$file.py; done

docs: $(VENV)/.installed-docs  ## the documentation, into docs/_build
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

clean:
	rm -rf $(VENV) docs/_build
