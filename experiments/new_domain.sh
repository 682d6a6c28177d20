#!/usr/bin/env bash
# A domain with few labels or none: a student from the other domains' teacher, the domain's unlabelled rows and its labels.
#   experiments/new_domain.sh DOMAIN [FRACTION]     FRACTION of the domain's labels that may be used, default 1 (all there are)
# Put what is labelled of the domain into the training table, or one of its rows if nothing is, and its other texts into
# task.unlabelled. It needs no dev and no test rows; without test rows nothing is evaluated. To try it on a domain whose labels are
# known: FRACTION 0.0167 of 900 rows is 15 labels (16: each class is rounded up), 0 is none; whatever is hidden is hidden from
# prototypes, teacher and student. Beside it stands a student from the few labels alone, which cannot be cut from a teacher.
# Environment: see settings.sh; STUDENT, default the task's, and {layers: 3, of: pretrained} for the labels alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -lt 1 || $# -gt 2 ]]; then sed -n '2,8s/^# //p' "$0" >&2; exit 2; fi
source experiments/settings.sh

export FRACTION=${2:-1} NEW_DOMAIN=true
export TASK RUN STUDENT=${STUDENT:-}
place=$RUN/new_domain/$FRACTION
evaluations="" student=""
for name in new_domain few_labels_only; do # in this order: the second one's default student is set when its turn comes
    export METHOD=experiments/methods/$name.yaml METHOD_FOLDER=$place/$name
    [[ $name == few_labels_only ]] && STUDENT=${STUDENT:-"{layers: 3, of: pretrained}"}
    step "$name"
    experiments/run_method.sh "$1"
    source experiments/settings.sh # now with this METHOD
    plan --domain="$1" --fraction "$FRACTION"
    student=${student:-${STUDENTS[0]}} # the first one's
    evaluations+="${EVALUATIONS[0]:+,${EVALUATIONS[0]}}"
    [[ $FRACTION == 0 || ${LABELS[0]} == 0 ]] && break # no student from the labels alone
done
[[ -z $evaluations ]] ||
    python experiments/methods_report.py --evaluations "${evaluations#,}" --out "$place/report-$(basename "${EVALUATIONS[0]}" .json).md"
printf '\nStudent: %s (a plain Hugging Face classifier)\n' "$student"
