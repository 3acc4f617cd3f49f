# Two commands: `make demo` and `make test`. Each first brings .venv up to date (nothing to do when it is current).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A .venv that came along when its folder was copied or moved runs the Python and the code of the old place.
FOREIGN := $(shell test ! -f $(BIN)/pip -o -L $(VENV) || head -n 3 $(BIN)/pip | \
  grep -qF -e '#!$(CURDIR)/$(VENV)/bin/' -e '"$(CURDIR)/$(VENV)/bin/' || echo foreign)

.PHONY: help foreign setup demo test test-slow audit lint ui clean

help:
	@echo "make demo   collect, train, score and report on two Atari games (CPU, no account, about ten minutes with bf16, longer without)"
	@echo "make test   run the tests"
	@echo "make test-slow   run the long tests; SLICE=0 to 39 runs a fortieth of them"
	@echo "make audit  ask the public list of vulnerabilities about every pinned package"
	@echo "make lint   ruff, mypy, import contracts"
	@echo "make ui     open the asset graph in Dagster's UI on 127.0.0.1"

setup: $(STAMP)

foreign:
	@echo "$(VENV) was made in another folder: it is made anew"
	@rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt $(FOREIGN)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python $$($(PYTHON) -V 2>&1 | cut -d" " -f2) found, 3.11 or newer needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Worldline into $(VENV) (once; a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fast,s3,postgres,kubernetes,ray,browser,crafter,metaworld]'
	@touch $(STAMP)

demo: setup
	@$(BIN)/worldline demo

test: setup
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: setup
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m slow $(if $(SLICE),--slice $(SLICE))

audit: setup
	@$(BIN)/python .ci/audit.py

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

ui: setup
	@$(BIN)/worldline ui

clean:
	rm -rf $(VENV) build *.egg-info
