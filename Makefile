# Two commands: `make chat` for a first answer, `make test` for everything that is checked.
# Works with make 3.81 (macOS). Variables:
#   IMAGE= Q=       picture and question of `make chat`
#   VENV=           another environment than .venv
#   PYTHON=         the Python that makes it (3.10 or newer)
#   TORCH_INDEX=    index to take PyTorch from (the README says when)
#   CONSTRAINTS=    pip constraints; empty for none
#   WORK=           where `make default-model` keeps pictures, features and state

VENV ?= .venv
PYTHON ?=
TORCH_INDEX ?=
CONSTRAINTS ?= requirements/constraints.txt
IMAGE ?=
Q ?=
EXAMPLE = examples/illustration.png
QUESTION = What is in this picture?
WORKERS ?= 2
WORK ?= build/default-model
export VENV PYTHON TORCH_INDEX CONSTRAINTS IMAGE Q EXAMPLE QUESTION

BIN = $(VENV)/bin
INPUTS = dev/setup.sh pyproject.toml $(wildcard requirements/constraints.txt)

.PHONY: help chat test lint format docs stress clean default-model judge-default-model

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile
	@echo "Targets: chat test lint format docs stress clean default-model judge-default-model"

chat: $(VENV)/.ready-chat
	@sh dev/chat.sh

test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.ready-dev
	$(BIN)/python dev/make_docs.py

stress: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m stress --record tests/stress/results.json

# Train the default model again from nothing, and write its figures; WORK= keeps what takes hours.
default-model: $(VENV)/.ready-dev
	$(BIN)/python dev/default_model.py --work $(WORK)

judge-default-model: $(VENV)/.ready-dev
	$(BIN)/python dev/judge_default_model.py --pictures $(WORK)/pictures

$(VENV)/.ready-chat: $(INPUTS)
	@sh dev/setup.sh chat

$(VENV)/.ready-dev: $(INPUTS)
	@sh dev/setup.sh dev

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
