# Everything real happens in dev.py; these are its short names.
# PYTHON is what makes .venv: any Python 3.11 or newer.
PYTHON ?= python3

.PHONY: help setup test lint format demo bench clean

help:
	@echo "make demo                   the main job: real traffic, a surge, an outage, a report   (ARGS=...)"
	@echo "make test                   format, lint, types, import layers, tests   (ARGS=... goes to pytest)"
	@echo "make lint                   the same without the tests"
	@echo "make format                 format the code and fix what can be fixed"
	@echo "make bench                  the list of benchmarks; ARGS=NAME runs one"
	@echo "make setup                  only make .venv"
	@echo "make clean                  remove .venv, caches and what the demo wrote"
	@echo "make test PYTHON=python3.12 with another Python"

setup lint format:
	@$(PYTHON) dev.py $@

test:
	@$(PYTHON) dev.py test -- $(ARGS)

demo bench:
	@$(PYTHON) dev.py $@ $(ARGS)

clean:
	rm -rf .venv .venv.lock .venv.trash .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build dist demo-out
	find src tests bench demo examples -name __pycache__ -type d -prune -exec rm -rf {} +
