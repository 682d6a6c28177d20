#!/usr/bin/env bash
# The whole method: tables -> embeddings -> prototype weights -> teacher -> a student per domain -> results.
#   ./run_all.sh                                                 quick run, needs no model hub and no account
#   TASK=amazon_reviews SOURCE=DIR_OR_TAR.GZ NPROC=2 DOMAINS="books dvd" ./run_all.sh
#   TASK=mnli SOURCE=DIR ./run_all.sh                            DIR holds train.jsonl and dev_matched.jsonl
#   TASK=mrpc SOURCE=DIR ./run_all.sh                            DIR holds msr_paraphrase_train.txt and _test.txt
#   TASK=path/to/my_task.yaml ./run_all.sh                       your own tables, of a translation too
#   TASK=translation_demo ./run_all.sh                           a translation of made-up languages, in two minutes
#   METHOD=experiments/methods/tinybert.yaml ./run_all.sh        another method, beside the first one in the same run
# Environment: TASK (task file, or its name in experiments/tasks/), SOURCE (raw data), DOMAINS (default: all; GENRES is
# the same), METHOD (method file), RUN (folder, default runs/<task>), NPROC (processes, default 1), OVERRIDES (options,
# e.g. "--task.training.seed 2"), REMAKE=1 (make anew what other code made).
# A finished step is skipped, a stale one made anew, a killed one goes on.
set -euo pipefail
cd "$(dirname "$0")"
source experiments/environment.sh
environment requirements.txt

TASK=${TASK:-review_snippets}
[[ $TASK == amazon ]] && TASK=amazon_reviews
if [[ $TASK == translation_demo ]]; then # two made-up languages, distilled at the level of whole translations
    python data_prep/synthetic_translation.py --remake "$([[ ${REMAKE:-0} == 1 ]] && echo true || echo false)"
    TASK=experiments/translation/tasks/translation_demo.yaml
fi
name=$(basename "${TASK%.yaml}")
[[ $TASK == *.yaml ]] || TASK=experiments/tasks/$TASK.yaml
[[ -f $TASK ]] || { echo "error: no task file $TASK" >&2; exit 2; }
grep -Eq "^problem: *['\"]?translation" "$TASK" && exec experiments/run_translation.sh
export NPROC=${NPROC:-1}
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / NPROC > 0 ? cores / NPROC : 1))}
source experiments/settings.sh
export TASK RUN METHOD

step "tables"
tables=runs/$name/tables
case $TASK in
experiments/tasks/review_snippets.yaml)
    python data_prep/packaged_minilm.py "${remake[@]}"
    python data_prep/review_snippets.py --out "$tables" "${remake[@]}" ;;
experiments/tasks/amazon_reviews.yaml)
    [[ -z ${SOURCE:-} && -d $tables ]] ||
        python data_prep/amazon_reviews.py --source "${SOURCE:?name the folder or tar.gz}" --out "$tables" "${remake[@]}" ;;
experiments/tasks/mnli.yaml)
    [[ -z ${SOURCE:-} && -d $tables ]] ||
        python data_prep/mnli.py --train "${SOURCE:?name the folder}/train.jsonl" \
            --dev "$SOURCE/dev_matched.jsonl" --out "$tables" "${remake[@]}" ;;
experiments/tasks/mrpc.yaml)
    [[ -z ${SOURCE:-} && -d $tables ]] ||
        python data_prep/mrpc.py --source "${SOURCE:?name the folder}" --out "$tables" "${remake[@]}" ;;
esac
read -ra domains <<<"${DOMAINS:-${GENRES:-}}"
unset DOMAINS GENRES # the plan of a method sets DOMAINS
experiments/run_method.sh "${domains[@]}"

student=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["domains"][0]["model"]["path"])' \
    "$METHOD_FOLDER/results.json")
cat <<END

Results:  $METHOD_FOLDER/results.json, $METHOD_FOLDER/report.md, $METHOD_FOLDER/report.html
Teachers: $RUN/teachers
Student:  $student (a plain Hugging Face classifier)
Try next: python -c "from transformers import pipeline; print(pipeline('text-classification', model='$student')('Not bad at all.', truncation=True))"
          another method: METHOD=experiments/methods/tinybert.yaml ./run_all.sh
          another seed:   RUN=$RUN-seed2 OVERRIDES="--task.training.seed 2" ./run_all.sh
          your own tables: data_prep/README.md
END
