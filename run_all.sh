#!/usr/bin/env bash
# The whole method: tables -> embeddings -> prototype weights -> meta-teacher -> a student per genre -> results.
#   ./run_all.sh                                                 quick run, needs no model hub and no account
#   TASK=amazon_reviews SOURCE=DIR_OR_TAR.GZ NPROC=2 GENRES="books dvd" ./run_all.sh
#   TASK=mnli SOURCE=DIR ./run_all.sh                            DIR holds train.jsonl and dev_matched.jsonl
#   TASK=mrpc SOURCE=DIR ./run_all.sh                            DIR holds msr_paraphrase_train.txt and _test.txt
#   TASK=path/to/my_task.yaml ./run_all.sh                       your own tables
# Environment: TASK, SOURCE, GENRES (default: all), NPROC (processes, default 1), METHOD (method file),
# RUN (folder, default runs/<task>), OVERRIDES (task options, e.g. "--task.training.seed 2").
# A finished step is skipped, a stale one made anew, a killed one goes on.
set -euo pipefail
cd "$(dirname "$0")"
source experiments/environment.sh
environment requirements.txt

TASK=${TASK:-review_snippets}
[[ $TASK == amazon ]] && TASK=amazon_reviews
name=$(basename "${TASK%.yaml}")
[[ $TASK == *.yaml ]] || TASK=experiments/tasks/$TASK.yaml
[[ -f $TASK ]] || { echo "error: no task file $TASK" >&2; exit 2; }
export TASK RUN=${RUN:-runs/$name} NPROC=${NPROC:-1} OVERRIDES=${OVERRIDES:-}
export METHOD=${METHOD:-experiments/methods/metakd.yaml}
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / NPROC > 0 ? cores / NPROC : 1))}
read -ra overrides <<<"$OVERRIDES"
if [[ $NPROC -gt 1 ]]; then launch=(torchrun --standalone --nproc_per_node "$NPROC"); else launch=(python); fi
step() { printf '\n== %s (%s)\n' "$1" "$(date +%H:%M:%S)"; }

step "tables"
case $TASK in
experiments/tasks/review_snippets.yaml)
    python data_prep/packaged_minilm.py
    python data_prep/review_snippets.py --out "runs/$name/tables" ;;
experiments/tasks/amazon_reviews.yaml)
    [[ -z ${SOURCE:-} && -d runs/$name/tables ]] ||
        python data_prep/amazon_reviews.py --source "${SOURCE:?name the folder or tar.gz}" --out "runs/$name/tables" ;;
experiments/tasks/mnli.yaml)
    [[ -z ${SOURCE:-} && -d runs/$name/tables ]] ||
        python data_prep/mnli.py --train "${SOURCE:?name the folder}/train.jsonl" \
            --dev "$SOURCE/dev_matched.jsonl" --out "runs/$name/tables" ;;
experiments/tasks/mrpc.yaml)
    [[ -z ${SOURCE:-} && -d runs/$name/tables ]] ||
        python data_prep/mrpc.py --source "${SOURCE:?name the folder}" --out "runs/$name/tables" ;;
esac
facts=$(python experiments/check_task.py --task "$TASK" "${overrides[@]}" --method "$METHOD" --genres="${GENRES:-}")
eval "$facts"

step "embeddings"
"${launch[@]}" data_prep/extract_embeddings.py --model "$ENCODER" --table "$TRAIN" --max_length "$MAX_LENGTH" \
    --out "$RUN/embeddings"
step "prototype weights"
python data_prep/prototype_weights.py --table "$TRAIN" --embeddings "$RUN/embeddings" --out "$RUN/train.weighted.tsv"
step "meta-teacher"
"${launch[@]}" experiments/train_teacher.py --task "$TASK" "${overrides[@]}" --task.train "$RUN/train.weighted.tsv" \
    --out "$RUN/teacher"
evaluations=()
for i in "${!DOMAINS[@]}"; do
    step "student for ${DOMAINS[i]}"
    experiments/run_genre.sh "${DOMAINS[i]}"
    evaluations+=("$RUN/students/${FOLDERS[i]}.json")
done
step "results"
python experiments/report.py --runs "$RUN" --evaluations "$(IFS=,; echo "${evaluations[*]}")"

cat <<END

Results:  $RUN/results.json, $RUN/report.md
Teacher:  $RUN/teacher
Students: $RUN/students/GENRE (plain Hugging Face classifiers)
Try next: python -c "from transformers import pipeline; print(pipeline('text-classification', model='$RUN/students/${FOLDERS[0]}')('Not bad at all.', truncation=True))"
          another seed: RUN=$RUN-seed2 OVERRIDES="--task.training.seed 2" ./run_all.sh
          your own tables: data_prep/README.md
END
