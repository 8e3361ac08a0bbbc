# Two commands do everything, each with its own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
# Compiled once, not by each child that a test starts; two workers with two BLAS threads each only wait
# for each other.
unexport PYTHONDONTWRITEBYTECODE
test test-faults fast: export OPENBLAS_NUM_THREADS := 1
.PHONY: help demo test test-faults fast lint bench bench-quality bench-measure bench-link bench-device bench-fleet zoo footprint test-arm64 clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

demo: $(READY)  ## Run the whole job on this machine: live camera, real model, real broker
	@$(BIN)/quantd demo

test: $(READY)  ## Run the checks and tests that this machine can run
	@tests/run_all $(BIN)

test-faults: $(READY)  ## Run what takes long by nature: the rest of each matrix of faults
	@tests/run_tests $(BIN) faults

fast: $(READY)  ## Run the fast tests only
	@$(BIN)/pytest -q -n auto --no-loadscope-reorder

lint: $(READY)  ## Format, lint and type-check
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(READY)  ## Measure quantd itself; prints figures and writes bench.json
	@$(BIN)/python -m tests.benchmarks.run --output bench.json

# PART=fidelity,memory,promises,pass,representative, ONLY=centerface,..., PEERS=none|ort|modelopt|all,
# MODELS=dir, FRAMES=n, REVISION=commit, MARKDOWN=1
bench-quality: $(READY)  ## Measure INT8 fidelity and its cost beside other tools and an earlier quantd
	@$(BIN)/python -m tests.benchmarks.bench_quality --part '$(PART)' --only '$(ONLY)' \
	  --peers '$(or $(PEERS),all)' --models '$(MODELS)' --frames '$(or $(FRAMES),16)' \
	  --revision '$(or $(REVISION),49a9107)' $(if $(MARKDOWN),--markdown)

# ONLY=power,harness,intervals,prediction,search, MARKDOWN=1
bench-measure: $(READY)  ## Measure whether latency, power, prediction and choice can be trusted
	@$(BIN)/python -m tests.benchmarks.bench_measure --only '$(ONLY)' $(if $(MARKDOWN),--markdown)

# ONLY=faults,floods,throughput,idle,fuzz, MESSAGES=n, CASES=n, SEED=n, MARKDOWN=1
bench-link: $(READY)  ## Measure whether the link to the broker keeps its promises
	@$(BIN)/python -m tests.benchmarks.bench_link --only '$(ONLY)' --messages $(or $(MESSAGES),100000) \
	  --cases $(or $(CASES),10000) --seed $(or $(SEED),1) $(if $(MARKDOWN),--markdown)

# ONLY=cuts,idle, COUNT=n, SEED=n, MARKDOWN=1
bench-device: $(READY)  ## Measure what power cuts leave behind, and what the idle daemon costs
	@$(BIN)/python -m tests.benchmarks.bench_device --only '$(ONLY)' --count $(or $(COUNT),200) \
	  --seed $(or $(SEED),0) $(if $(MARKDOWN),--markdown)

# ONLY=ingest,live, MESSAGES=n, MARKDOWN=1
bench-fleet: $(READY)  ## Measure what a fleet costs the operator's machine
	@$(BIN)/python -m tests.benchmarks.bench_fleet --only '$(ONLY)' \
	  --messages $(or $(MESSAGES),100000) $(if $(MARKDOWN),--markdown)

bench-first: $(READY)  ## Measure a newcomer's first run beside Ultralytics' export
	@$(BIN)/python -m tests.benchmarks.bench_first

# ONLY=resnet18,... (run again), JOBS=n
zoo: $(READY)  ## Run 46 architectures, with random weights, through quantd's stages
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.zoo.run --only '$(ONLY)' --jobs $(or $(JOBS),2)

test-arm64:  ## Install and run quantd in an arm64 userland under qemu (root, debootstrap; takes long)
	@nice tests/arm64

footprint:  ## Print what quantd takes on a Jetson: wheels for aarch64, resolved and unpacked here
	@tests/footprint

clean:  ## Remove the virtual environments and what the demo left
	@rm -rf $(VENV) .arm64 .bench quantd-demo bench.json bench-quality.json bench-measure.json bench-link.json bench-device.json bench-fleet.json bench-first.json zoo.json

$(READY): pyproject.toml tests/setup_venv
	@tests/setup_venv $(PYTHON) $(VENV)
	@touch $@
