# Every target sets up what it needs on a fresh machine: a virtual environment in .venv, once.
# PYTHON=... chooses the interpreter, JOBS=... how many tests run at a time.

JOBS ?= 2
VENV := .venv
READY := $(VENV)/.ready
TORCH := torch>=2.9,<2.14

.PHONY: help demo test test-gpu test-nightly check format clean

help:
	@echo "make demo          train, export and score a small model on this CPU: about three minutes"
	@echo "make test          all tests that need no GPU: under five minutes on two cores"
	@echo "make test-gpu      tests that need a CUDA device"
	@echo "make test-nightly  tests too long for every change"
	@echo "make check         formatting, lint, types, structure"
	@echo "make format        mend formatting and what lint can mend"
	@echo "make clean         remove caches and builds; .venv, data and runs stay"

demo: $(READY)
	@$(VENV)/bin/paramgolf run demo

test: $(READY)
	$(VENV)/bin/python -m pytest -n $(JOBS)

test-gpu: $(READY)
	$(VENV)/bin/python -m pytest -m "gpu and not nightly"

test-nightly: $(READY)
	$(VENV)/bin/python -m pytest -n $(JOBS) -m "nightly and not gpu"

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

# Without an NVIDIA driver, torch's own index has a build without CUDA, a tenth of the download. Where that index
# cannot be reached, the next line takes torch from wherever pip looks.
$(READY): pyproject.toml
	@echo "setting up $(VENV): once, some minutes of downloading"
	@test -x $(VENV)/bin/python || $$(./.ci/python) -m venv $(VENV)
	@test -e /dev/nvidiactl -o "$$(uname)" != Linux || $(VENV)/bin/python -c "import torch" 2>/dev/null || \
		$(VENV)/bin/pip install --quiet --retries 0 --timeout 20 \
		--index-url https://download.pytorch.org/whl/cpu "$(TORCH)" 2>/dev/null || true
	@$(VENV)/bin/pip install --quiet --editable ".[dev]"
	@touch $@
