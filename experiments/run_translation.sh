#!/usr/bin/env bash
# A translation: teacher -> its translations of the training table -> student -> translations of the test table -> scores.
#   TASK=experiments/translation/tasks/multi30k.yaml METHOD=experiments/translation/methods/sequence_kd.yaml \
#       experiments/run_translation.sh
# Environment: TASK (task file), METHOD (method file, default sequence_kd.yaml), RUN (folder, default runs/NAME), NPROC
# (processes, default 1), BEAM (of the test translations, default 1: greedy), OVERRIDES (options of the task, e.g.
# "--task.training.seed 2"), REMAKE=1. Finished steps are skipped. The teacher is shared by all methods of a run.
set -euo pipefail
cd "$(dirname "$0")/.."
TASK=${TASK:-experiments/translation/tasks/translation_demo.yaml}
METHOD=${METHOD:-experiments/translation/methods/sequence_kd.yaml}
task_name=$(basename "${TASK%.yaml}") name=$(basename "${METHOD%.yaml}")
RUN=${RUN:-runs/$task_name} BEAM=${BEAM:-1} NPROC=${NPROC:-1}
read -ra overrides <<<"${OVERRIDES:-}"
remake=(); [[ ${REMAKE:-} == 1 ]] && remake=(--remake true)
launch=(python); ((NPROC > 1)) && launch=(python -m metakd.launch --standalone --nproc_per_node "$NPROC")
setting() { python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1])).get(sys.argv[2], sys.argv[3]))' "$@"; }
train=$(setting "$TASK" train "") test=$(setting "$TASK" test "")
targets=$(setting "$METHOD" targets reference) beam=$(setting "$METHOD" beam 5)
step() { printf '\n== %s\n' "$1"; }

step "teacher"
"${launch[@]}" experiments/train_translator.py --task "$TASK" "${overrides[@]}" --role teacher \
    --method experiments/translation/methods/translation_reference.yaml --out "$RUN/teacher" "${remake[@]}"
options=()
if [[ $targets != reference ]]; then
    step "the teacher's translations of the training table"
    translations=$RUN/train-beam$beam.tsv # all hypotheses, for all methods
    "${launch[@]}" experiments/translate.py --model "$RUN/teacher" --table "$train" --beam "$beam" --nbest "$beam" \
        --out "$translations" "${remake[@]}"
    options+=(--translations "$translations")
fi
if grep -q 'feature: logits' "$METHOD" || python - "$TASK" <<'PY'
import sys, yaml
student = yaml.safe_load(open(sys.argv[1]))["student"]
sys.exit(not (isinstance(student, dict) and "hidden_size" not in student))
PY
then options+=(--teacher "$RUN/teacher"); fi
step "student by $name"
"${launch[@]}" experiments/train_translator.py --task "$TASK" "${overrides[@]}" --method "$METHOD" \
    --out "$RUN/$name/student" "${options[@]}" "${remake[@]}"
for model in teacher "$name/student"; do
    step "test: $model"
    place=$RUN/$model
    "${launch[@]}" experiments/translate.py --model "$RUN/$model" --table "$test" --beam "$BEAM" \
        --out "$place.test-beam$BEAM.tsv" "${remake[@]}"
    python experiments/evaluate_translation.py --translations "$place.test-beam$BEAM.tsv" \
        --out "$place.test-beam$BEAM.json" "${remake[@]}"
done
