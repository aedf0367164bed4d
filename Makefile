# make up | down        one machine: a whole cluster here, and its end
# make lab | lab-down   a head and three workers as real systemd hosts here (root), and their end
# make check | test     what CI runs
# make rollout-test     updates by every strategy, and faults in them, on lab hosts under load (root)
# make chaos            a batch on lab hosts whose power is cut, who are parted and killed: each prompt answered once (root)
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up down lab lab-down check format test test-unit bench-apply bench-plan bench-routing bench-distribution bench-gateway bench-dashboard bench-models bench-scaling bench-tasks rollout-test chaos docs lock clean apt-test open-webui

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOT := $(shell [ "$$(id -u)" = 0 ] && echo yes)

help:
	@sed -n 's/^# //p' Makefile

# --- what is needed, installed once and again when the lock files change -----------------------------------------------------------

# One venv serves all; each stamp says which lock it has. $(call venv,LOCK)
define venv
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; found " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  if [ "$(ROOT)" ]; then apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "python3-venv is missing: run 'sudo apt-get install python3-venv', then make again"; exit 1; fi; }
	@echo "installing Python packages ($(1), once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/$(1).lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
endef

$(VENV)/.local: requirements/local.lock pyproject.toml
	$(call venv,local)

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	$(call venv,dev)
	@touch $(VENV)/.local

LAB_PACKAGES := systemd-container debootstrap openssh-client rsync nftables iproute2 util-linux dpkg-dev apt-utils \
	g++ nlohmann-json3-dev libstb-dev
TEST_PACKAGES := $(LAB_PACKAGES) prometheus prometheus-alertmanager nginx-light chromium chromium-driver openssl sshpass procps

# $(call apt,PACKAGES): installs what is missing, when root; else says what to install.
define apt
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$(ROOT)" ]; then echo "installing Debian packages:" $$missing; \
	    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null; \
	  else echo "not root: tests that need these Debian packages will skip:" $$missing; fi; \
	fi
endef

# --- one machine -------------------------------------------------------------------------------------------------------------------

up: $(VENV)/.local
	@$(BIN)/cluster-ai up

down:
	@[ -x $(BIN)/cluster-ai ] && $(BIN)/cluster-ai down || echo "nothing is installed here, so nothing runs"

# --- the lab -----------------------------------------------------------------------------------------------------------------------

lab: $(VENV)/.local
	@[ "$(ROOT)" ] || { echo "the lab boots real hosts with systemd-nspawn: run 'sudo make lab'"; exit 1; }
	$(call apt,$(LAB_PACKAGES))
	@PYTHON=$(BIN)/python lab/lab.sh up

lab-down:
	@lab/lab.sh down

# --- tests -------------------------------------------------------------------------------------------------------------------------

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/ansible-lint --offline --profile production --strict

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

apt-test:
	$(call apt,$(TEST_PACKAGES))

# The real Ollama, where this machine can build it; without it the embedded engine takes its place in integration tests.
OLLAMA := .cluster-ai/build/ollama
$(OLLAMA): lab/build_ollama.sh
	@if [ -e /usr/include/nlohmann/json.hpp ] && [ -e /usr/include/stb/stb_image.h ]; then PYTHON=$(BIN)/python lab/build_ollama.sh $@; \
	  else echo "not building Ollama: nlohmann-json3-dev and libstb-dev are missing"; fi

# Clients that people use, for tests/integration/test_clients.py: they want other versions than we do.
CLIENTS := .cluster-ai/build/clients
$(CLIENTS)/.lock: requirements/clients.lock
	@echo "installing clients of the gateway, for its tests (once)"
	@rm -rf $(CLIENTS) && $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@

test: apt-test $(VENV)/.dev $(OLLAMA) $(CLIENTS)/.lock
	@[ ! -x $(OLLAMA) ] || export CLUSTER_AI_OLLAMA=$(CURDIR)/$(OLLAMA); \
	export CLUSTER_AI_CLIENTS=$(CURDIR)/$(CLIENTS)/bin/python; exec $(BIN)/python tests/run.py

test-unit: $(VENV)/.dev
	$(BIN)/pytest tests/unit

# Open WebUI, for `cluster-ai up` and tests/integration/test_open_webui.py: 0.6 GB, so only where somebody asks for it.
OPEN_WEBUI := .cluster-ai/open-webui
open-webui: $(OPEN_WEBUI)/.lock

$(OPEN_WEBUI)/.lock: requirements/open-webui.lock
	@echo "installing Open WebUI (once)"
	@rm -rf $(OPEN_WEBUI) && $(PYTHON) -m venv $(OPEN_WEBUI)
	@$(OPEN_WEBUI)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@

# --- benchmarks and documentation ----------------------------------------------------------------------------------------------------

bench-apply: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_apply.py

bench-plan: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_plan.py

bench-gateway: apt-test $(VENV)/.dev
	$(BIN)/python benchmarks/bench_gateway.py

bench-distribution: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_distribution.py

bench-models: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_models.py

bench-routing: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_routing.py

bench-dashboard: apt-test $(VENV)/.dev
	$(BIN)/python benchmarks/bench_dashboard.py

bench-scaling: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_scaling.py

bench-tasks: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_tasks.py

rollout-test: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_rollout.py

chaos: apt-test $(VENV)/.dev $(OLLAMA)
	$(BIN)/python benchmarks/bench_chaos.py

docs: $(VENV)/.dev
	$(BIN)/cluster-ai config reference > docs/configuration.md
	$(BIN)/cluster-ai config schema > docs/cluster.schema.json
	$(BIN)/python clients/generate.py
	$(BIN)/python -m cluster_ai.metrics names > docs/metrics.md
	$(BIN)/python -m cluster_ai.metrics alerts > docs/alerts.md
	$(BIN)/python -m cluster_ai.metrics grafana > docs/grafana/cluster-ai.json

lock:
	requirements/lock.sh --upgrade

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
