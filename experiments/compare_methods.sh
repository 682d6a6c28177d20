#!/usr/bin/env bash
# The same student, distilled by one method after the other for one domain, and a table of the results.
#   experiments/compare_methods.sh DOMAIN [METHOD ...]    METHOD: a file of experiments/methods/ without .yaml; default: all
# Every student starts alike, from the pretrained encoder, so that methods without a teacher owe nothing to one. Methods
# with the same teacher share it. Environment: see settings.sh; STUDENT, default {layers: 3, of: pretrained}.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -lt 1 ]]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
source experiments/settings.sh

domain=$1
shift
files=("${@/%/.yaml}")
[[ $# -eq 0 ]] && files=(experiments/methods/*.yaml)
export TASK RUN STUDENT=${STUDENT:-"{layers: 3, of: pretrained}"}
evaluations=""
for file in "${files[@]}"; do
    export METHOD=experiments/methods/$(basename "$file")
    name=$(basename "${METHOD%.yaml}")
    export METHOD_FOLDER=$RUN/compare/$name
    step "$name"
    status=0
    experiments/run_method.sh "$domain" || status=$?
    # 2: this task or student does not fit the method.
    [[ $status -eq 2 ]] && echo "left out: $name" && continue
    [[ $status -eq 0 ]] || exit "$status"
    source experiments/settings.sh # now with this METHOD
    plan --domain="$domain"
    evaluations+=",${EVALUATIONS[0]}"
done
python experiments/methods_report.py --evaluations "${evaluations#,}" --out "$RUN/compare/report.md"
