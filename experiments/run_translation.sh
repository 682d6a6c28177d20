#!/usr/bin/env bash
# A translation: teacher -> its translations of the training table -> student -> translations of the test table -> scores.
#   TASK=experiments/translation/tasks/multi30k.yaml METHOD=experiments/translation/methods/sequence_kd.yaml \
#       experiments/run_translation.sh
# Environment: TASK (task file), METHOD (method file, default sequence_kd.yaml), RUN (folder, default runs/NAME), NPROC
# (processes, default 1), BEAM (of the test translations, default 1: greedy), OVERRIDES (options of the task, e.g.
# "--task.training.seed 2"), REMAKE=1. Finished steps are skipped. The teacher is shared by all methods of a run.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -gt 0 ]]; then sed -n '2,7s/^# //p' "$0" >&2; exit 2; fi
TASK=${TASK:-experiments/translation/tasks/translation_demo.yaml}
METHOD=${METHOD:-experiments/translation/methods/sequence_kd.yaml}
task_name=$(basename "${TASK%.yaml}") name=$(basename "${METHOD%.yaml}")
RUN=${RUN:-runs/$task_name} BEAM=${BEAM:-1} NPROC=${NPROC:-1}
read -ra overrides <<<"${OVERRIDES:-}"
remake=(); [[ ${REMAKE:-} == 1 ]] && remake=(--remake true)
launch=(python); ((NPROC > 1)) && launch=(python -m metakd.launch --standalone --nproc_per_node "$NPROC")
facts=$(python experiments/check_translation.py --task "$TASK" "${overrides[@]}" --method "$METHOD")
eval "$facts" # TRAIN, TEST, PRECISION, TARGETS_BEAM and READS_TEACHER
step() { printf '\n== %s\n' "$1"; }

step "teacher"
"${launch[@]}" experiments/train_translator.py --task "$TASK" "${overrides[@]}" --role teacher \
    --method experiments/translation/methods/translation_reference.yaml --out "$RUN/teacher" "${remake[@]}"
options=()
if [[ -n $TARGETS_BEAM ]]; then
    step "the teacher's translations of the training table"
    translations=$RUN/train-beam$TARGETS_BEAM.tsv # all hypotheses, for all methods
    "${launch[@]}" experiments/translate.py --model "$RUN/teacher" --table "$TRAIN" --beam "$TARGETS_BEAM" \
        --nbest "$TARGETS_BEAM" --precision "$PRECISION" --out "$translations" "${remake[@]}"
    options+=(--translations "$translations")
fi
[[ -n $READS_TEACHER ]] && options+=(--teacher "$RUN/teacher")
step "student by $name"
"${launch[@]}" experiments/train_translator.py --task "$TASK" "${overrides[@]}" --method "$METHOD" \
    --out "$RUN/$name/student" "${options[@]}" "${remake[@]}"
for model in teacher "$name/student"; do
    step "test: $model"
    place=$RUN/$model
    "${launch[@]}" experiments/translate.py --model "$RUN/$model" --table "$TEST" --beam "$BEAM" --precision "$PRECISION" \
        --out "$place.test-beam$BEAM.tsv" "${remake[@]}"
    python experiments/evaluate_translation.py --translations "$place.test-beam$BEAM.tsv" \
        --out "$place.test-beam$BEAM.json" "${remake[@]}"
done
cat <<END

Results: $RUN/teacher.test-beam$BEAM.json, $RUN/$name/student.test-beam$BEAM.json
Student: $RUN/$name/student (a plain Hugging Face encoder-decoder)
END
