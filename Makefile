# Two commands do everything: `make demo` and `make test`. Both set up what they need, once.
PYTHON ?= python3
VENV := .venv
SERVER_VENV := .venv-server
BIN := $(VENV)/bin
BUILD := build/compact-256-t5
SESSION_BUILD := build/hiera_tiny-512-t5

QUICK := $(addprefix tests/,auralsam2_client model_repository/admission model_repository/prompts model_repository/sessions auralsam2/data service/monitoring)

.PHONY: help setup lock resolve demo test test-gpu coverage check format docs train evaluate bench bench-gpu bench-serving bench-sessions bench-wire bench-segment loadtest tables chaos first-hour soak results monitoring dashboard bench-kernels kernels-report clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready $(SERVER_VENV)/.ready ## the two environments: ours, and the server's

# What is installed is locked with hashes; torch alone is not (requirements/README.md says why). It comes first, so that no
# other requirement picks a CUDA build; the locked versions then win over what came with it. sam2's source package wants
# torchvision; of it we use the model definitions only, so: no dependencies.
PIP := pip install --quiet --disable-pip-version-check
LOCKED := --require-hashes --no-deps --no-build-isolation
GROUPS := build client service export quantize kernels train tensorrt-rtx load dev docs

# Which build of torch: auto is CUDA where NVIDIA's driver is there, else CPU; `make setup TORCH=cuda` and TORCH=cpu are
# taken at their word, and make the environment again where it holds the other.
TORCH := auto
TORCH_cpu := requirements/torch.txt
TORCH_cuda := requirements/torch-cuda.txt
TORCH_THERE := $(or $(shell cat $(VENV)/.torch 2>/dev/null),$(TORCH_cpu))
ifneq ($(TORCH),auto)
ifeq ($(filter cpu cuda,$(TORCH)),)
$(error TORCH=$(TORCH); must be auto, cpu or cuda)
endif
ifneq ($(TORCH_THERE),$(TORCH_$(TORCH)))
.PHONY: $(VENV)/.ready
endif
endif

$(VENV)/.ready: $(TORCH_THERE) requirements/sam2.txt requirements/locked/build.txt requirements/locked/checkout.txt requirements/checkout.py
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/$(PIP) $(LOCKED) -r requirements/locked/build.txt
	$(PYTHON) -m requirements.torch_choice $(TORCH) > $(VENV)/.torch
	$(BIN)/$(PIP) -r "$$(cat $(VENV)/.torch)"
	$(BIN)/$(PIP) $(LOCKED) -r requirements/locked/checkout.txt
	SAM2_BUILD_CUDA=0 $(BIN)/$(PIP) $(LOCKED) -r requirements/sam2.txt
	$(BIN)/python requirements/checkout.py
	touch $@

# The server's Python models answer empty tensors with numpy 2, so they have an environment of their own.
# numpy 1 has no wheel beyond Python 3.12, so it may be another Python than ours; SERVER_PYTHON names one.
$(SERVER_VENV)/.ready: requirements/locked/server.txt requirements/tritonserver.txt
	python="$${SERVER_PYTHON:-$$($(PYTHON) -m requirements.server_python)}" && "$$python" -m venv --clear $(SERVER_VENV)
	$(SERVER_VENV)/bin/$(PIP) $(LOCKED) -r requirements/locked/server.txt
	$(SERVER_VENV)/bin/$(PIP) $(LOCKED) -r requirements/tritonserver.txt
	touch $@

# Versions stay as they are unless a requirement or UPGRADE=1 asks for others. An image holds what the checkout holds.
UV := out/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --annotation-style line \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: ## rewrite requirements/locked from requirements/*.txt; UPGRADE=1 takes the newest versions
	$(PYTHON) -m venv out/lock
	out/lock/bin/$(PIP) uv==0.13.9
	$(UV) $(GROUPS:%=requirements/%.txt) -o requirements/locked/checkout.txt
	$(UV) requirements/build.txt -c requirements/locked/checkout.txt -o requirements/locked/build.txt
	$(UV) $(patsubst %,requirements/%.txt,client service export) -c requirements/locked/checkout.txt -o requirements/locked/image.txt
	$(UV) requirements/server.txt -o requirements/locked/server.txt

# Nothing is installed: names and versions are resolved as for a machine that has that Python, where pip looks for packages.
RESOLVE = out/lock/bin/uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_28
resolve: ## check that the locked versions and torch go together, for Python 3.11, 3.12 and 3.13
	mkdir -p out
	$(PYTHON) -m venv out/lock
	out/lock/bin/$(PIP) uv==0.13.9
	cat $(TORCH_cpu) requirements/locked/checkout.txt > out/lock/all.txt
	for python in 3.11 3.12 3.13; do $(RESOLVE) --python-version $$python out/lock/all.txt -o out/lock/$$python.txt > /dev/null || exit 1; done
	for python in 3.11 3.12; do $(RESOLVE) --python-version $$python --only-binary :all: requirements/locked/server.txt -o out/lock/server.txt > /dev/null || exit 1; done
	@echo "the locked versions resolve for Python 3.11, 3.12 and 3.13, the server's for 3.11 and 3.12"

demo: setup ## export compact, serve it (on a card where there is one), segment a clip; overlay, masks and JSON in out/
	$(BIN)/auralsam2 demo --out out

test: setup ## every test; prints the slowest, and why some were left out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -rs --durations=15

# Also without pytest: python -m loadtests.gpu.checks. SOAK_S=3600 adds an hour of load on the service.
test-gpu: setup ## kernels, network and service on the card of this machine, compute-sanitizer; SOAK_S=3600 adds load
	$(BIN)/python -m pytest -m gpu -rs
	$(if $(SOAK_S),$(BIN)/python -m loadtests.gpu.checks --only soak --soak-s $(SOAK_S))

# Not of all tests: counting lines makes tracing, exports and interpreted kernels two to three times slower.
coverage: setup ## lines that the quick tests reach: client, contract, stage runtime, data, monitoring
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(QUICK)

docs: setup ## the pages and the reference of all modules, into site/; strict
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: setup ## format, lint, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## rewrite to the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

train: setup ## the run that made the shipped weights; killed, it goes on
	$(BIN)/auralsam2 train --recipe project --out runs/compact

evaluate: setup ## M_J and M_F of the shipped weights on the procedural splits
	$(BIN)/auralsam2 evaluate --out out/evaluation.json

bench: setup ## seconds a clip on this CPU, against the published implementation; growing work; what each saving saves
	$(BIN)/python -m loadtests.cpu --out out/bench-cpu
	$(BIN)/python -m loadtests.cpu.growth --out out/bench-cpu
	$(BIN)/python -m loadtests.cpu.savings --out out/bench-cpu

# Ends with 3 where there is no card. Also without set-up: python -m loadtests.gpu.
bench-gpu: setup ## ten minutes on the card of this machine: clip, kernels, service, stages; what was not run, and why
	$(BIN)/python -m loadtests.gpu --out out/bench-gpu

bench-serving: setup $(BUILD)/manifest.json ## latency through gRPC against the engine calls alone
	$(BIN)/python -m loadtests.serving_overhead --build $(BUILD)

bench-wire: setup $(BUILD)/manifest.json ## what a clip costs on its way, by form of the wire, size and callers
	$(BIN)/python -m loadtests.wire --build $(BUILD) --out out/bench-wire

bench-segment: setup $(BUILD)/manifest.json ## a ten-minute video through `segment` against the load generator; the client's memory and CPU by step
	$(BIN)/python -m loadtests.segmenting --build $(BUILD) --out out/bench-segment

bench-sessions: setup $(SESSION_BUILD)/manifest.json ## a later round of a session against its first, at 512 px
	$(BIN)/python -m loadtests.session_rounds --build $(SESSION_BUILD) --json out/bench-sessions.json

# Variables, all optional: USERS, SPAWN_RATE (users a second), RUN_TIME or DURATION (90s, 5m), SCENARIO, MODE, WIRE, and
# HOST=host:port for a server that runs already: then locust alone, its report in out/load. LOCUST adds any of its flags.
# Shells export a HOST of their own, so that one counts on make's command line alone.
RUN_TIME = $(DURATION)
TARGET_HOST = $(if $(filter command,$(origin HOST)),$(HOST))
LOAD_FLAGS = $(if $(USERS),--users $(USERS)) $(if $(SPAWN_RATE),--spawn-rate $(SPAWN_RATE)) $(if $(SCENARIO),--scenario $(SCENARIO)) \
	$(if $(MODE),--mode $(MODE)) $(if $(WIRE),--wire $(WIRE))
loadtest: setup $(if $(TARGET_HOST),,$(BUILD)/manifest.json) ## two minutes of load on the embedded server, and overload; USERS=8 SPAWN_RATE=2 RUN_TIME=60s HOST=host:port
ifneq ($(TARGET_HOST),)
	$(BIN)/locust -f loadtests/generator/locustfile.py --headless --host $(TARGET_HOST) --run-time $(or $(RUN_TIME),120s) $(LOAD_FLAGS) \
		--only-summary --html out/load/load.html --csv out/load/load $(LOCUST)
else
	$(BIN)/python -m loadtests.run --build $(BUILD) --out out/load $(if $(RUN_TIME),--run-time $(RUN_TIME)) $(LOAD_FLAGS)
	$(BIN)/python -m loadtests.overload --build $(BUILD) --out out/load
endif

# Goes on where it was stopped. TABLES adds flags, as TABLES="--only 'table 1' --large 224".
tables: setup ## the paper's Tables 1, 4, 5 and 8 and Figure 1, every row measured here beside its numbers; goes on where it was stopped
	$(BIN)/python -m loadtests.tables --out out/tables $(TABLES)

chaos: setup $(BUILD)/manifest.json ## ten minutes of faults under load, by a seed: what is lost, how long nobody answers
	$(BIN)/python -m loadtests.chaos --build $(BUILD) --out out/chaos

# Clones into an empty folder, so that it needs the package index, some 5 GB and half an hour; ONLY="doctor train" plays a part.
first-hour: ## the first hour of somebody new, from a clone to a training killed five times; where it goes wrong
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m tests.first_hour --out out/first-hour $(if $(ONLY),--checkout . --only $(ONLY))

soak: setup $(BUILD)/manifest.json ## a quarter of an hour of load: does memory grow
	$(BIN)/python -m loadtests.run --build $(BUILD) --scenario soak --duration 900 --out out/soak

results: setup ## keep what bench, bench-sessions, bench-wire, bench-segment, loadtest, tables and soak wrote, and write loadtests/results/README.md of it
	$(BIN)/python -m loadtests.collect

monitoring: setup ## Prometheus for a server of this machine (auralsam2 serve --exporter-port 8003); EXPORTER_PORT=8003 or TARGETS="host:port ...", PROMETHEUS_PORT=9090
	$(BIN)/python -m service.monitoring.local $(if $(EXPORTER_PORT),--exporter-port $(EXPORTER_PORT)) $(TARGETS:%=--target %) $(if $(PROMETHEUS_PORT),--port $(PROMETHEUS_PORT))

dashboard: setup ## rewrite the Grafana dashboard from service/monitoring/dashboard.py
	$(BIN)/python -m service.monitoring.dashboard

bench-kernels: setup ## fused operators beside what they replace; on a GPU the kernels, on a CPU the low-rank form
	$(BIN)/python -m kernels.bench --json out/bench-kernels.json

kernels-report: setup ## registers, spills, shared memory and tensor-core instructions for six architectures, no GPU needed
	$(BIN)/python -m kernels.report --json kernels/compiled.json

$(BUILD)/manifest.json: | setup
	$(BIN)/auralsam2 export --out $(BUILD)

# Random weights: what a round costs does not depend on them.
$(SESSION_BUILD)/manifest.json: | setup
	$(BIN)/auralsam2 export --preset hiera_tiny --image-size 512 --out $(SESSION_BUILD)

clean: ## remove what demo, export and tests wrote; the environments stay
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage site
