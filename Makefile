# Thin calls of dev.py, which does the work on every system (Windows: python dev.py test).
#   make test ARGS="-k vae"      make demo ARGS="--help"      make test PYTHON=python3.12
PYTHON ?= python3
ARGS ?=

.PHONY: help venv demo test test-slow test-comfy test-all lint bench comfyui clean
.DEFAULT_GOAL := help

help:
	@$(PYTHON) dev.py help

venv demo test test-slow test-comfy test-all lint bench comfyui clean:
	@$(PYTHON) dev.py $@ $(ARGS)
