# make alone lists the targets. Everything lives in .venv/, made by make setup.
PYTHON ?= python3
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup parts demo demo-icecast test lint format module bench shots docs lock build clean

help:  ## list the targets
	@echo "aircox-listen-stats"
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | \
		while IFS="$$(printf '\t')" read -r name line; do printf '  make %-14s%s\n' "$$name" "$$line"; done

setup:  ## make or renew .venv/ (Python alone is enough)
	@$(PYTHON) tools/make_environment.py

parts: setup  ## install the servers that the tests use, from Debian (root or sudo)
	@$(VENV) -m tools.parts --install

demo: setup  ## a station with a year of past and listeners now, at one URL
	@exec $(VENV) -m example_project demo $(ARGS)

demo-icecast: setup  ## the same on a real Icecast and a real Liquidsoap
	@$(VENV) -m tools.parts --install icecast2 liquidsoap ffmpeg
	@exec $(VENV) -m example_project demo --icecast $(ARGS)

test: setup  ## lint, then the suite on Django 5.2 and 4.2, SQLite and PostgreSQL
	@$(VENV) -m tools.parts --install
	@exec $(VENV) -m tools.run_tests $(ARGS)

lint: setup  ## ruff, import-linter, eslint, and missing migrations
	@exec $(VENV) -m tools.run_tests --lint-only

format: setup  ## let ruff put the Python code in its form
	@$(VENV) -m ruff check --fix --quiet . || true
	@$(VENV) -m ruff format .

module: setup  ## make player-events.min.js out of player-events.js
	@exec $(VENV) -m tools.minify_module

bench: setup  ## every benchmark, in its quick form
	@exec $(VENV) -m tools.run_benchmarks $(ARGS)

shots: setup  ## screenshots of the pages and the widget, into shots/
	@$(VENV) -m tools.parts --install chromium
	@exec $(VENV) -m pytest tests/browser -q --shots shots $(ARGS)

docs: setup  ## check the links and the code blocks of the documents
	@exec $(VENV) -m tools.check_docs

lock: setup  ## renew requirements-lock.txt and package-lock.json
	@$(PYTHON) tools/make_environment.py --lock
	@$(VENV) -m tools.stage_static --renew-lock

build: setup  ## the wheel and the sdist, into dist/
	@exec $(VENV) -m build

clean:  ## remove everything that these targets made
	rm -rf .venv node_modules build dist shots var .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf aircox_listen_stats/static/aircox_listen_stats/vendor
	find aircox_listen_stats example_project -name '*.mo' -delete
