#!/usr/bin/env bash
# Distil and evaluate the student of one genre (domain). run_method.sh or run_all.sh has trained the teacher.
#   experiments/run_genre.sh GENRE
# Environment: see settings.sh; FRACTION and EXCLUDE=1 as in run_method.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -ne 1 ]]; then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
source experiments/settings.sh

options=(--domain="$1" --fraction "${FRACTION:-1}")
[[ ${EXCLUDE:-0} == 1 ]] && options+=(--exclude_domain="$1")
plan "${options[@]}"
teacher=()
[[ -n ${TEACHERS_OF[0]} ]] && teacher=(--teacher "${TEACHERS_OF[0]}")
eval "student_options=(${STUDENT_OPTIONS[0]})"
"${launch[@]}" experiments/distill.py "${settings[@]}" --task.train "$TABLE" --out "${STUDENTS[0]}" \
    "${student_options[@]}" --name "$METHOD_NAME" "${teacher[@]}" "${remake[@]}"
[[ -z ${EVALUATIONS[0]} ]] && exit 0 # the domain has no test rows
[[ ${TEACHERS_OF[0]} == \[* ]] && teacher=() # an average of several teachers is no model to evaluate
"${launch[@]}" experiments/evaluate.py --model "${STUDENTS[0]}" --table "$TEST" --domain="$1" --out "${EVALUATIONS[0]}" \
    "${teacher[@]}" "${remake[@]}"
