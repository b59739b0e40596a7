# Two commands matter: `make book` and `make test`. Both set up what they need in .venv; `make help` lists the rest.

PYTHON ?= python3
CHAPTERS ?=
VENV := .venv/bin
SETUP := $(PYTHON) book/tools/setup_env.py $(if $(CPU),--cpu)

.DEFAULT_GOAL := help
.PHONY: help setup book test notebooks gpu difficulty bench-backbone bench-world bench-conv-lora bench-methods lab course lint format lock cover clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the environment in .venv (CPU=1 leaves the CUDA packages out)
	@$(PYTHON) -c "" 2> /dev/null || { echo "There is no working '$(PYTHON)' here: install Python 3.11, 3.12 or 3.13, or name it: make book PYTHON=/path/to/python3" >&2; exit 1; }
	@$(SETUP)

book: setup ## the HTML of the book, from the committed notebooks
	@$(VENV)/python book/tools/build.py

test: setup lint ## everything CI runs
	@$(VENV)/python book/tools/build.py
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE MOE_DEVICE=cpu $(VENV)/python -m pytest -n auto tests chapters $(PYTEST)

notebooks: setup ## re-run the chapters whose outputs are out of date (CHAPTERS="00 04" for some)
	@$(VENV)/python book/tools/run.py $(CHAPTERS)

gpu: setup ## the book's own figures: the chapters at gpu scale, results kept in book/results
	@$(VENV)/python book/tools/run.py $(CHAPTERS) --scale gpu

difficulty: setup ## how hard the tasks of the pocket world are: does the runs that book/results lacks, in a night (minutes on a GPU)
	@$(VENV)/python book/tools/difficulty.py

bench-backbone: setup ## how fast the pocket encoder is, beside segment-anything's
	@$(VENV)/python book/tools/bench_backbone.py

bench-world: setup ## how fast the pocket world renders, beside a training step
	@$(VENV)/python book/tools/bench_world.py

bench-conv-lora: setup ## what a layer of Conv-LoRA costs beside one of LoRA, literal and fast
	@$(VENV)/python book/tools/bench_conv_lora.py

bench-methods: setup ## what the other methods cost, as they are written and as the library computes them
	@$(VENV)/python book/tools/bench_methods.py

lab: setup ## JupyterLab on the chapters
	@$(VENV)/jupyter lab chapters

course: setup ## the chapters as assignments, without outputs and solutions, in _build/course
	@$(VENV)/python book/tools/course.py $(CHAPTERS)

lint: setup ## style of the code, truth of the notebooks, addresses in step
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/python book/tools/colab.py --check
	@$(VENV)/python book/tools/check.py

format: setup ## let ruff put the code in order
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

lock: setup ## resolve requirements.lock anew from pyproject.toml
	$(VENV)/uv pip compile pyproject.toml --all-extras --universal --upgrade --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock

cover: setup ## paint the picture of the front page again
	@$(VENV)/python book/tools/cover.py

clean: ## remove what was built (the environment stays; `rm -r .venv` removes it)
	rm -rf _build dist chapters/results book/_generated .pytest_cache .hypothesis .ruff_cache
