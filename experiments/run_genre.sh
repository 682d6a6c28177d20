#!/usr/bin/env bash
# Distil and evaluate the student of one genre (domain).
#   experiments/run_genre.sh GENRE
# Environment: TASK (task file), RUN (run folder with teacher/ and train.weighted.tsv), METHOD, NPROC,
# OVERRIDES (more options for the task, e.g. "--task.training.seed 2").
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -ne 1 ]]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi

genre=$1
task=${TASK:-experiments/tasks/review_snippets.yaml}
run=${RUN:-runs/review_snippets}
method=${METHOD:-experiments/methods/metakd.yaml}
read -ra overrides <<<"${OVERRIDES:-}"
if [[ ${NPROC:-1} -gt 1 ]]; then launch=(torchrun --standalone --nproc_per_node "$NPROC"); else launch=(python); fi
facts=$(python experiments/check_task.py --task "$task" "${overrides[@]}" --genre="$genre")
eval "$facts"
student=$run/students/${FOLDERS[0]}

"${launch[@]}" experiments/distill.py --task "$task" "${overrides[@]}" --task.train "$run/train.weighted.tsv" \
    --method "$method" --teacher "$run/teacher" --domain="$genre" --out "$student"
"${launch[@]}" experiments/evaluate.py --model "$student" --teacher "$run/teacher" --table "$TEST" --domain="$genre" \
    --out "$student.json"
