#!/usr/bin/env bash
# One method on one task: embeddings -> prototype weights -> teachers -> a student per domain -> report, as its file says.
#   experiments/run_method.sh [DOMAIN ...]      default: all domains
# Environment: see settings.sh; for one domain also FRACTION (of its labels that are visible) and EXCLUDE=1 (prototypes and
# teacher see none of its labels). Finished steps are skipped, stale ones made anew, killed ones go on.
set -euo pipefail
cd "$(dirname "$0")/.."
source experiments/settings.sh

options=()
for domain in "$@"; do
    [[ $# -eq 1 ]] && options=(--domain="$domain" --fraction "${FRACTION:-1}")
    [[ $# -eq 1 && ${EXCLUDE:-0} == 1 ]] && options+=(--exclude_domain="$domain")
done
[[ $# -gt 1 ]] && options=(--domains="$*")
plan "${options[@]}"

if [[ -n $EMBEDDINGS ]]; then
    step "embeddings"
    "${launch[@]}" data_prep/extract_embeddings.py "${settings[@]}" --out "$EMBEDDINGS" "${remake[@]}"
    step "prototype weights"
    python data_prep/prototype_weights.py "${settings[@]}" --embeddings "$EMBEDDINGS" --out "$TABLE" "${HIDDEN[@]}" \
        "${remake[@]}"
fi
for i in "${!TEACHERS[@]}"; do
    step "teacher ${TEACHERS[i]}"
    eval "teacher_options=(${TEACHER_OPTIONS[i]})"
    "${launch[@]}" experiments/train_teacher.py "${settings[@]}" --task.train "$TABLE" --out "${TEACHERS[i]}" \
        "${teacher_options[@]}" "${remake[@]}"
done
evaluations=""
for i in "${!DOMAINS[@]}"; do
    step "student for ${DOMAINS[i]}"
    experiments/run_genre.sh "${DOMAINS[i]}"
    evaluations+="${EVALUATIONS[i]:+,${EVALUATIONS[i]}}"
done
[[ -z $evaluations ]] && { echo "no test rows, so nothing is evaluated; the student lies in ${STUDENTS[0]}"; exit 0; }
step "results"
python experiments/report.py --out "$METHOD_FOLDER" --evaluations "${evaluations#,}"
