# Thin targets. Everything is installed into .venv; nothing else on the machine is touched.
#
#   make test                          with python3
#   make test PYTHON=python3.12        with another Python, 3.11 or newer (make clean first)
#   make test ARGS='-k settle -x'      what pytest should do besides
#   make test JOBS=1                   one after the other; most tests wait, so 4 at a time suit 2 cores

PYTHON ?= python3
ARGS   ?=
JOBS   ?= 4
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
LIGHT  := $(VENV)/.light

.DEFAULT_GOAL := help
.PHONY: help venv test test-systemd torture soak check demo cov bench docs pictures clean clean-systemd

help:  ## show this list
	@echo "tnfd: targets (each sets up $(VENV) by itself)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

venv: $(READY)  ## set up .venv with everything for development

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tnfd needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	  echo "Name one that is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(PY) || { echo "Setting up $(VENV) (once, about a minute)"; $(PYTHON) -m venv $(VENV); }
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[sphinx,whisper,test,dev]'
	@touch $@

test: $(READY)  ## run the tests
	@$(PY) -m pytest -q --tb=short -n $(JOBS) --dist worksteal -m 'not torture' $(ARGS)

torture: $(READY)  ## kill it 560 times, feed it thousands of broken files (10 minutes to half an hour)
	@$(PY) -m pytest -q -s --tb=short -m torture $(ARGS)

soak: $(READY)  ## an hour of files and faults; make soak ARGS='--minutes 3' for less
	@$(PY) -m tests.e2e.soak $(ARGS)

test-systemd: $(READY)  ## the service on a real systemd, 257 and 252 (needs root and Debian's packages)
	@$(PY) -m tests.systemd.machine build
	@TNFD_TEST_SYSTEMD=1 $(PY) -m pytest -q --tb=short -n 2 --dist loadscope tests/systemd $(ARGS)

check: $(READY)  ## lint, format, types, and who may import whom
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet
	@$(PY) -m mypy --no-error-summary
	@$(VENV)/bin/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@echo "check: ok"

# The demo needs a tenth of what the tests need; where those are set up, it takes what is there.
$(LIGHT): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tnfd needs Python 3.11 or newer; name one that is: make demo PYTHON=python3.12" >&2; exit 1; }
	@test -x $(PY) || { echo "Setting up $(VENV) for the demo (once, about 20 s)"; $(PYTHON) -m venv $(VENV); }
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[sphinx]'
	@touch $@

demo: $(or $(wildcard $(READY)),$(LIGHT))  ## a spoken sample through the real daemon; no key, no network
	@$(PY) -m tnfd demo

cov: $(READY)  ## run the tests and report what they do not reach
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest -q --tb=short -n $(JOBS) --dist worksteal -m 'not torture' $(ARGS)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

bench: $(READY)  ## measure: the idle daemon, how busy it keeps an engine, batch, long recordings, start-up, limits
	@$(PY) -m benchmarks.idle
	@$(PY) -m benchmarks.throughput $(ARGS)
	@$(PY) -m benchmarks.long
	@$(PY) -m benchmarks.intake
	@$(PY) benchmarks/startup.py
	@$(PY) -m benchmarks.limits

docs: $(READY)  ## write the documents that are made from the code
	@$(PY) docs/make_errors.py
	@$(PY) -m docs.make_units

pictures: $(READY)  ## draw the pictures of the README from the real commands
	@$(PY) docs/make_pictures.py

clean-systemd:  ## remove what test-systemd has built below /var/tmp (or $$TNFD_SYSTEMD_HOME)
	@$(PY) -m tests.systemd.machine clean

clean:  ## remove .venv, caches and builds
	@rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .hypothesis \
	  .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find tnfd tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
