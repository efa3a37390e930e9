# serve, test: what the README tells. The rest is for those who change the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORTS ?=
# The CPU build of PyTorch; the default on PyPI brings several GB of CUDA libraries.
TORCH ?= torch==2.13.0

.PHONY: help serve serve-torch serve-text test test-all dev lint types contracts bench options clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

serve: $(VENV)/.serve  ## install what serving needs and serve the example repository
	$(BIN)/tritonpy-supervisor serve --model-repository=examples/model_repository $(ARGS)

serve-torch: $(VENV)/.torch  ## the same digits model as TorchScript
	$(BIN)/tritonpy-supervisor serve --model-repository=examples/pytorch_repository $(ARGS)

serve-text: $(VENV)/.serve  ## the example that reads printed words
	$(BIN)/tritonpy-supervisor serve --model-repository=examples/text_repository $(ARGS)

test: $(VENV)/.dev  ## install what the tests need and run them, without the slow ones
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu" $(ARGS)

test-all: $(VENV)/.dev  ## all tests that this machine can run
	$(BIN)/pytest -n 2 --dist worksteal -m "not gpu" $(ARGS)

dev: $(VENV)/.dev  ## install everything for development

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/pyright

contracts: $(VENV)/.dev  ## who may import whom, and generated files are fresh
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	$(BIN)/python docs/generate_options.py --check
	$(BIN)/python docs/generate_states.py --check

bench: $(VENV)/.dev  ## measure, beside the real Triton where it can be had
	$(BIN)/python benchmarks/load/run.py $(ARGS)

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cpu]'
	@touch $@

$(VENV)/.torch: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[torch]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[cpu,torch,cloud,redis,otel,test,dev]'
	@touch $@ $(VENV)/.serve $(VENV)/.torch
