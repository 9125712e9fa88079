# Everything runs in .venv. The first target that needs it creates it, and later ones keep it up to date with
# pyproject.toml and constraints.txt. PYTHON= chooses the interpreter, ARGS= adds arguments to a command.

EXTRAS   = experiments,dev
SEEDS    = 30
# PRESET is paper, short or smoke; NETWORKS is a list like lenet,mnistfc; LAUNCHER is local, slurm or ray.
PRESET   = paper
NETWORKS =
LAUNCHER = local
# The most jobs that a launcher is given; empty: 1000.
JOBS     =
ARGS     =
TABLES   = $(foreach number,1 2 3 4 5 6 7 8 9,table$(number))
WORKERS = auto
PY      = .venv/bin/python
STAMP   = .venv/.installed-$(subst $(comma),-,$(EXTRAS))
comma   = ,
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
SHELL   = /bin/sh
TABLE   = $(PY) scripts/table.py $(1) --seeds '$(SEEDS)' --preset $(PRESET) --networks '$(NETWORKS)' \
          --launcher $(LAUNCHER) $(if $(JOBS),--jobs $(JOBS)) --override $(ARGS)

# A command named python3.12 may exist and still not run, or lack venv. So each one is tried.
SUITS = import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# The variables that a target takes follow its description in brackets. Others on the command line are refused.
GIVEN = $(foreach name,$(filter-out PYTHON EXTRAS,$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)))
TAKEN = $(foreach goal,$(patsubst table%,tables,$(MAKECMDGOALS)), \
          $(shell sed -n 's/^$(goal):.*\[\([A-Z =]*\)\]$$/\1/p' $(firstword $(MAKEFILE_LIST))))
$(foreach name,$(GIVEN),$(if $(filter $(name)=,$(TAKEN)),, \
  $(error make $(MAKECMDGOALS): $(name)= has no effect; expected $(or $(strip $(TAKEN)),no variable))))

.DEFAULT_GOAL = help
.PHONY: help setup demo train test soak lint format data tables $(TABLES) figure3 figure4 study reference docs plan runs report \
        bench wandb-sync clean

help:  ## list the targets
	@echo "make TARGET [VARIABLE=...]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install everything (the other targets do this if needed)

# The old stamp is removed first and the new one is written last: an interrupted set-up starts from the beginning.
$(STAMP): pyproject.toml constraints.txt
	@if ! ls .venv/.installed-* > /dev/null 2>&1; then \
	  for python in $(PYTHONS); do \
	    if "$$python" -c '$(SUITS)' 2>/dev/null; then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make: no Python 3.11, 3.12 or 3.13 with its venv module found (tried: $(PYTHONS));" \
	      "name one with PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making .venv with $$("$$found" -V): torch is large, so this takes a few minutes, once."; \
	  "$$found" -m venv --clear .venv || exit 1; \
	fi
	@rm -f .venv/.installed-*
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP)  ## train SGD, Adam and their SALR forms on embedded digits, 3 seeds: a table and a figure [ARGS=]
	$(PY) scripts/demo.py $(ARGS)

train: $(STAMP)  ## train one cell, as python train.py does (ARGS="optimizer=sgd_salr seeds=3") [ARGS=]
	$(PY) train.py $(ARGS)

test: $(STAMP)  ## run the tests on all cores (ARGS="-k name" for some) [WORKERS= ARGS=]
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

soak: $(STAMP)  ## run the tests that take longer: kills, many records, too little memory [WORKERS= ARGS=]
	OMP_NUM_THREADS=1 $(PY) -m pytest -m soak -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(STAMP)  ## check the code, its format and its types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP)  ## sort the imports and format the code
	$(PY) -m ruff check --select I --fix .
	$(PY) -m ruff format .

data: $(STAMP)  ## download every data set (into SALR_DATA_DIR, else ./downloads) [ARGS=]
	$(PY) scripts/download.py $(ARGS)

tables: $(STAMP)  ## train and print all nine tables; one: make table1 [SEEDS= PRESET= NETWORKS= LAUNCHER= JOBS= ARGS=]
	$(call TABLE,all)

$(TABLES): table%: $(STAMP)
	$(call TABLE,$*)

figure3: $(STAMP)  ## draw Figure 3, the three measures on the paper's function [ARGS=]
	$(PY) scripts/figure3.py $(ARGS)

figure4: NETWORKS = allcnn_bn
figure4: $(STAMP)  ## train what Figure 4 shows, the All-CNN-BN row of Table 2, and draw it [SEEDS= PRESET= LAUNCHER= JOBS= ARGS=]
	$(call TABLE,2)

plan: $(STAMP)  ## show what the tables still cost, in runs, gradient calls and time on this device [SEEDS= PRESET= NETWORKS= LAUNCHER= JOBS= ARGS=]
	$(call TABLE,all --plan)

runs: $(STAMP)  ## list the cells below results/: seeds done, mean, deviation, options (ARGS="dataset=mnist") [ARGS=]
	$(PY) scripts/runs.py $(ARGS)

report: $(STAMP)  ## make tables, figures and results/report.html from the records [SEEDS= PRESET= ARGS=]
	$(PY) scripts/report.py --seeds '$(SEEDS)' --preset $(PRESET) --override $(ARGS)

study: $(STAMP)  ## train the study in two phases and draw its page [PRESET= LAUNCHER= JOBS= ARGS=]
	$(PY) scripts/study.py --preset $(PRESET) --launcher $(LAUNCHER) $(if $(JOBS),--jobs $(JOBS)) \
	  --override $(ARGS)

reference: $(STAMP)  ## make the project's tables, figures and pages anew from the runs that it has kept [ARGS=]
	$(PY) scripts/reference.py $(ARGS)

bench: $(STAMP)  ## time every optimizer beside a plain loop, into results/bench/ [ARGS=]
	$(PY) -m scripts.bench $(ARGS)

docs: $(STAMP)  ## build the documentation, docs/_build/html/index.html
	@$(PY) -c 'import sphinx, myst_parser' 2> /dev/null || \
	  $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@rm -rf docs/reference/generated  # pages of names that are gone would stay
	$(PY) -m sphinx -q -W --keep-going -n docs docs/_build/html

wandb-sync: $(STAMP)  ## upload the runs that W&B has kept offline (ARGS="results=DIR") [ARGS=]
	$(PY) scripts/wandb_sync.py $(ARGS)

clean:  ## remove caches and builds; keep data, results and .venv
	rm -rf build dist docs/_build docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
