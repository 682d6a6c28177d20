#!/usr/bin/env bash
# A new domain with few labels: what do they give alone, and what with a teacher of the other domains?
#   experiments/few_labels.sh DOMAIN [FRACTION]     FRACTION of the domain's labels that are visible, default 0.015
# Prototypes and teacher never see the domain's labels. Three students start alike, from the pretrained encoder:
# few_labels_only (the few labels), all_domains (the teacher on every domain's rows), few_labels (the teacher on the domain's
# unlabelled rows, and the labels). Environment: see settings.sh; STUDENT, default {layers: 3, of: pretrained}.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -lt 1 || $# -gt 2 ]]; then sed -n '2,6s/^# //p' "$0" >&2; exit 2; fi
source experiments/settings.sh

export FRACTION=${2:-0.015} EXCLUDE=1
export TASK RUN STUDENT=${STUDENT:-"{layers: 3, of: pretrained}"}
place=$RUN/few_labels/$FRACTION
evaluations=""
for name in few_labels_only all_domains few_labels; do
    export METHOD=experiments/methods/$name.yaml METHOD_FOLDER=$place/$name
    step "$name"
    experiments/run_method.sh "$1"
    source experiments/settings.sh # now with this METHOD
    plan --domain="$1" --fraction "$FRACTION" --exclude_domain="$1"
    evaluations+=",${STUDENTS[0]}.json"
done
python experiments/methods_report.py --evaluations "${evaluations#,}" --out "$place/report-$(basename "${STUDENTS[0]}").md"
