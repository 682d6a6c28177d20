#!/usr/bin/env bash
# Lint, types and tests. More arguments go to pytest, e.g. ./run_tests.sh -k losses
set -euo pipefail
cd "$(dirname "$0")"
source experiments/environment.sh
environment requirements.txt
environment tests/requirements.txt
ruff check .
ruff format --check .
mypy
bash -n run_all.sh run_tests.sh experiments/*.sh
pytest -n auto --dist worksteal "$@" # an idle process takes over tests of a busy one
