# Waypost: `make demo` shows the main job on this machine, `make test` proves it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
PYTHON_ROOMS := gslb httpdns edge_lb bpf ops tests

.PHONY: help
help: ## list every command
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: root
root:
	@if [ "$$(id -u)" -ne 0 ]; then \
	  echo "this needs root, for BPF programs and network namespaces; without it these work: make unit, and on high ports .venv/bin/waypost dns|https --config FILE" >&2; \
	  exit 9; fi

.PHONY: setup
setup: ## install what is missing: Debian packages, Python packages, BPF objects
	@.ci/setup

.PHONY: demo
demo: root setup ## the main job, step by step, verified, on two sites in network namespaces
	@$(BIN)/waypost lab demo

.PHONY: test
test: root setup ## every test: unit, property, contract, BPF, namespaces, end to end
	@$(PYTEST) -q tests

.PHONY: unit
unit: setup ## the tests that need no root
	@$(PYTEST) -q tests -m "not bpf and not netns and not e2e"

.PHONY: check
check: setup ## style, types, import rules, warnings as errors
	@$(BIN)/ruff check $(PYTHON_ROOMS)
	@$(BIN)/ruff format --check --quiet $(PYTHON_ROOMS)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache 2>&1 | tail -n 12; exit $${PIPESTATUS[0]}
	@clang-format --dry-run -Werror bpf/*.c bpf/*.h bpf/bench/*.c
	@clang-format --style=file:bpf/.clang-format --dry-run -Werror tests/bench/*.c
	@$(BIN)/python -m bpf.compile

.PHONY: format
format: setup ## rewrite Python and C in the house style
	@$(BIN)/ruff format $(PYTHON_ROOMS)
	@$(BIN)/ruff check --fix --quiet $(PYTHON_ROOMS)
	@clang-format -i bpf/*.c bpf/*.h bpf/bench/*.c
	@clang-format --style=file:bpf/.clang-format -i tests/bench/*.c

.PHONY: bench
bench: root setup ## queries a second, requests a second, ns a packet; each ends in one JSON line
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

# By Debian's own interpreter: a lock holds what the interpreter that made it needs.
.PHONY: lock
lock: ## renew .ci/requirements.lock from pyproject.toml
	@rm -rf build/lock && /usr/bin/python3 -m venv build/lock && build/lock/bin/pip install -q pip-tools
	@build/lock/bin/pip-compile --quiet --upgrade --extra dev --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-find-links --no-emit-index-url --no-header \
	  -o .ci/requirements.lock pyproject.toml

.PHONY: clean
clean: ## remove what the commands above made here
	@rm -rf .venv bpf/obj build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
