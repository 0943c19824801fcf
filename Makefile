PYTHON ?= python3
EXTRAS ?= dev

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
EXACT = $(wildcard .ci/requirements-$(VERSION).txt)
PIP = .venv/bin/python -m pip install --no-compile --quiet
UV = $(or $(shell command -v uv),.venv/bin/uv)
STAMP = .venv/.complete

# Installs glowjax with extras: by uv, in half of the time, or by pip, which knows people's mirrors.
define install
	@$(UV) --version >/dev/null 2>&1 || $(PIP) uv || true
	@$(UV) pip install --quiet --python .venv/bin/python --editable '.[$(1)]' $(EXACT:%=--constraint %) \
	  2>/dev/null || $(PIP) --editable '.[$(1)]' $(EXACT:%=--constraint %)
endef

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1 \t/p' Makefile | expand -t 10

demo: $(STAMP) ## train a small Glow on scikit-learn's digits, compare it, sample it: see runs/demo
	rm -rf runs/demo
	.venv/bin/glowjax train glow_digits --run-dir runs/demo
	.venv/bin/python -m experiments.baselines runs/demo
	.venv/bin/glowjax sample runs/demo --num 64

gallery: $(STAMP) ## run the experiments for CPUs that have not run yet: one page of all pictures, about two and a half hours
	.venv/bin/python -m experiments.gallery

check: lint ## check style and types, and run one test of each flow: a minute and a half
	.venv/bin/python -m pytest -n 2 -m quick

test: $(STAMP) ## run the tests: a few minutes
	.venv/bin/python -m pytest -n 2 --dist loadgroup

test-slow: $(STAMP) ## run the tests that take longer: train at length, several hosts, whole runs
	.venv/bin/python -m pytest -n 2 --dist loadgroup -m "slow and not exhaustive"

test-all: test test-slow ## run all tests but the exhaustive ones, which take hours: pytest -m exhaustive

lint: $(STAMP) ## check style, formatting and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/ty check

docs: $(STAMP) ## run the tutorials and build the site from docs/ and the docstrings: see build/site
	$(call install,docs)
	.venv/bin/python docs/pages.py build/pages
	.venv/bin/python docs/notebooks.py build/pages
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict --config-file docs/mkdocs.yml

docs-version: docs ## put the site of this version beside those of others, on the local branch gh-pages
	version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' glowjax/__init__.py) && export NO_MKDOCS_2_WARNING=1 && \
	export PATH="$(CURDIR)/.venv/bin:$$PATH" && \
	mike deploy --config-file docs/mkdocs.yml --update-aliases "$$version" latest && \
	mike set-default --config-file docs/mkdocs.yml latest

format: $(STAMP) ## put style and formatting right, where a tool can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

lock: ## renew the exact versions under .ci (needs uv)
	for v in 3.11 3.12; do uv pip compile --quiet --upgrade --no-header --no-annotate \
	  --python-version $$v --extra dev pyproject.toml --output-file .ci/requirements-$$v.txt; done

clean: ## remove what was built, the environment and the caches; keep runs/
	rm -rf .venv .cache .hypothesis .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "glowjax needs Python 3.11 or newer, and $(PYTHON) is %d.%d: try make PYTHON=python3.12" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv --clear .venv
	$(call install,$(EXTRAS))
	@touch $@

.PHONY: help demo gallery check test test-slow test-all lint docs docs-version format lock clean
