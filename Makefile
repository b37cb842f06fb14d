# Everything starts from these targets; each installs what it needs into .venv and builds what is missing.
#   make demo   both cities, living, at http://127.0.0.1:8700/
#   make test   checks and tests

SHELL := /bin/sh
PYTHON_IN := .venv/bin/python
PYTEST := $(PYTHON_IN) -m pytest
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint bench docs pins clean setup frontend messages check chromium

demo: setup
	@$(PYTHON_IN) -m quartier demo $(ARGS)

test: setup chromium check
	@$(PYTEST) -n 2 --dist loadfile -q $(ARGS)

test-all: setup chromium check
	@$(PYTEST) -n 2 --dist loadfile -q -m "slow or not slow" $(ARGS)

# What can be said without running the code.
check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/lint-imports
	@.venv/bin/mypy

lint: setup
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .
	@$(MAKE) --no-print-directory check

bench: setup
	@$(PYTHON_IN) -m bench $(ARGS)

docs: setup
	@$(PYTHON_IN) -m mkdocs build --strict --quiet && echo "build/docs/index.html"

chromium:
	@tools/install-chromium

setup: .venv/stamp frontend messages

.venv/stamp: requirements/dev.txt pyproject.toml
	@python=$$(tools/find-python) && echo "Setting up .venv with $$python ..." && \
	if ! { [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then \
	    rm -rf .venv && { "$$python" -m venv .venv || { rm -rf .venv; \
	    echo "Python's venv module is missing. On Debian: apt install python3-venv" >&2; exit 1; }; }; \
	fi
	@$(PYTHON_IN) -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(PYTHON_IN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

frontend: .venv/stamp
	@$(PYTHON_IN) tools/build_frontend.py

messages: .venv/stamp
	@$(PYTHON_IN) tools/compile_messages.py

# Renew the pins; uv comes from PyPI and is needed for this only.
pins: .venv/stamp
	@$(PYTHON_IN) -m pip install --quiet uv
	@.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header pyproject.toml -o requirements/runtime.txt
	@.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header pyproject.toml requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt

clean:
	@rm -rf .venv node_modules src/quartier/portal/static/build build dist .mypy_cache .ruff_cache .pytest_cache
