# Every target sets up what it needs on a fresh machine: a virtual environment in .venv, once.
# PYTHON=... chooses the interpreter, JOBS=... how many tests run at a time, TORCH_INDEX=... whose build of torch.

JOBS ?= 2
VENV := .venv
READY := $(VENV)/.ready
TORCH := torch>=2.9,<2.14

.PHONY: help demo test test-gpu test-nightly check format clean

help:
	@echo "make demo          train, export and score a small model on this CPU: about three minutes"
	@echo "make test          all tests that need no GPU: about nine minutes on two cores"
	@echo "make test-gpu      tests that need a CUDA device"
	@echo "make test-nightly  tests too long for every change"
	@echo "make check         formatting, lint, types, structure"
	@echo "make format        mend formatting and what lint can mend"
	@echo "make clean         remove caches and builds; .venv, data and runs stay"
	@echo
	@echo "make demo TORCH_INDEX=URL sets up with the torch of that package index: one that has the build for CPUs alone"
	@echo "spares a machine without a GPU nine tenths of the download. Without it, pip takes torch from where it looks."

demo: $(READY)
	@$(VENV)/bin/paramgolf run demo

test: $(READY)
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal

test-gpu: $(READY)
	$(VENV)/bin/python -m pytest -m "gpu and not nightly"

test-nightly: $(READY)
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal -m "nightly and not gpu"

check: $(READY)
	$(VENV)/bin/ruff format --check --exclude "*.md" .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest tests/test_structure.py

format: $(READY)
	$(VENV)/bin/ruff format --exclude "*.md" .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@echo "setting up $(VENV): once, some minutes of downloading"
	@test -x $(VENV)/bin/python || $$(./.ci/python) -m venv $(VENV)
	@test -z "$(TORCH_INDEX)" || $(VENV)/bin/pip install --quiet --index-url "$(TORCH_INDEX)" "$(TORCH)"
	@$(VENV)/bin/pip install --quiet --editable ".[dev]"
	@touch $@
