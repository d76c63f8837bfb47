# `make help` lists the targets. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
BIN := .venv/bin
ENGINE := serving/engine/native
FRONT := serving/wire/native

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 20

.PHONY: demo
demo: .venv/.installed-demo ## train, export, quantize, serve and call three models on real data
	$(BIN)/python -m training.demo

.PHONY: benchmark
benchmark: .venv/.installed-demo ## INT8 against FP32 on this machine: bytes, time, error, accuracy
	$(BIN)/python -m loadtests.benchmarks.int8

.PHONY: bench
bench: .venv/.installed-demo ## both fronts of the server against the engine's limit and grpcio's own floor, on two cores
	$(BIN)/python -m loadtests.benchmarks.serving

.PHONY: bench-native
bench-native: .venv/.installed-demo ## the native INT8 engine against onnxruntime: time, error, answers to the bit
	$(BIN)/python -m loadtests.benchmarks.native

.PHONY: bench-replicas
bench-replicas: .venv/.installed-test ## replicas behind Envoy: what each brings until the cores are full, what Envoy costs
	$(BIN)/python -m loadtests.benchmarks.replicas

.PHONY: bench-batcher
bench-batcher: .venv/.installed-test ## what the batcher's own Python costs per ticket, from 64 to 10,000 tickets
	$(BIN)/python -m loadtests.benchmarks.batcher

.PHONY: soak
soak: .venv/.installed-demo ## twenty minutes of mixed traffic on the demo's models: nothing lost, nothing that grows
	$(BIN)/python -m loadtests.soak --model-repository demo-output/models

.PHONY: simulate
simulate: .venv/.installed-demo ## fleets of 1 to 1,000 replicas in virtual time: how to balance, how to scale
	$(BIN)/python -m loadtests.simulate

.PHONY: load
load: .venv/.installed-demo .venv/.installed-load ## a minute of load on the demo's models (or on HOST=host:port), judged by loadtests/slo.yaml
	$(BIN)/python -m loadtests.load $(if $(HOST),--host $(HOST)) --slo loadtests/slo.yaml --stream-share 0.2

.PHONY: capacity
capacity: .venv/.installed-demo .venv/.installed-load ## the highest rate at which each of the demo's models keeps loadtests/slo.yaml
	$(BIN)/python -m loadtests.capacity $(if $(HOST),--host $(HOST))

.PHONY: test
test: check ## lint, types, and every test
	$(BIN)/python -m pytest -n auto --dist loadfile
	$(BIN)/python -m pytest tests/socket -n 2 --dist loadfile
	[ ! -e $(FRONT)/liblstm_front.so ] || LSTM_SERVE_WIRE=grpcio $(BIN)/python -m pytest tests/socket -n 2 --dist loadfile

.PHONY: check
check: .venv/.installed-test ## lint, types and import contracts only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: .venv/.installed-test ## let ruff settle the form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: proto
proto: .venv/.installed-test ## write serving/_proto again from proto/
	$(BIN)/python scripts/generate_stubs.py

.PHONY: docs
docs: .venv/.installed-test ## write the table of settings in docs/configuration.md and the dashboard again
	$(BIN)/python -m scripts.generate_configuration
	$(BIN)/python -m scripts.dashboard

.PHONY: native
native: .venv/.installed-demo ## build the native front and INT8 engine again, or say why they cannot be built
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --config-settings wheel.cmake=true -e .
	@[ -e $(FRONT)/liblstm_front.so ] || echo "The native front is not built: it takes" \
		"apt-get install g++ libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc"

.PHONY: clean
clean: ## remove the environment, the demo's output and every cache
	rm -rf .venv demo-output benchmark-output load-output capacity-output build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	rm -f $(ENGINE)/liblstm_native.so $(FRONT)/liblstm_front.so

.venv/.installed-%: pyproject.toml constraints.txt CMakeLists.txt proto/open_inference.proto \
		$(wildcard $(ENGINE)/CMakeLists.txt $(ENGINE)/src/* $(FRONT)/CMakeLists.txt $(FRONT)/seam.proto $(FRONT)/src/*)
	@scripts/venv.sh $*
	@touch $@
	@[ $* != test ] || touch .venv/.installed-demo .venv/.installed-load
