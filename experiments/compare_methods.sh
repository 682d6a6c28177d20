#!/usr/bin/env bash
# The same student, distilled by one method after the other for one genre (domain), and a table of the results.
#   experiments/compare_methods.sh GENRE [METHOD ...]     METHOD: a file of experiments/methods/ without .yaml; default: all
# Needs the tables, weights and meta-teacher of run_all.sh. Every student starts alike, from the pretrained encoder, so
# that label_only owes nothing to a teacher. Finished students are kept, a killed run goes on. metakd_released learns from
# the same teacher and weights as the others, so its stages alone are compared.
# Environment: TASK (task file), RUN (run folder), NPROC, STUDENT (default {layers: 3, of: pretrained}),
# OVERRIDES (more options for the task, e.g. "--task.training.seed 2").
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -lt 1 ]]; then sed -n '2,9s/^# //p' "$0" >&2; exit 2; fi

genre=$1
shift
methods=("$@")
if [[ ${#methods[@]} -eq 0 ]]; then
    for file in experiments/methods/*.yaml; do methods+=("$(basename "$file" .yaml)"); done
fi
task=${TASK:-experiments/tasks/review_snippets.yaml}
run=${RUN:-runs/review_snippets}
table=$run/train.weighted.tsv
read -ra overrides <<<"${OVERRIDES:-}"
overrides+=("--task.train=$table")
if [[ ${NPROC:-1} -gt 1 ]]; then launch=(torchrun --standalone --nproc_per_node "$NPROC"); else launch=(python); fi
facts=$(python experiments/check_task.py --task "$task" "${overrides[@]}" --genre="$genre")
eval "$facts"
place=$run/methods/${FOLDERS[0]}

# distill OUT METHOD STUDENT [option ...]
distill() {
    "${launch[@]}" experiments/distill.py --task "$task" "${overrides[@]}" --out "$1" --domain="$genre" \
        --method "experiments/methods/$2.yaml" --task.student "$3" "${@:4}"
}

evaluations=()
for method in "${methods[@]}"; do
    printf '\n== %s (%s)\n' "$method" "$(date +%H:%M:%S)"
    student=${STUDENT:-"{layers: 3, of: pretrained}"}
    teacher=(--teacher "$run/teacher")
    file=$method
    first=(true)
    case $method in
    label_only) teacher=() ;;
    multi_teacher) # one teacher per domain
        every=$(python experiments/check_task.py --task "$task" "${overrides[@]}")
        eval "$every"
        list=""
        for i in "${!DOMAINS[@]}"; do
            single=$run/teachers/single/${FOLDERS[i]}
            "${launch[@]}" experiments/train_teacher.py --task "$task" "${overrides[@]}" --kind single \
                --domain="${DOMAINS[i]}" --allow_weak true --out "$single"
            list+="$single, "
        done
        teacher=(--teacher "[${list%, }]") ;;
    general) # an encoder from unlabelled text; then vanilla KD makes a classifier of it
        first=(distill "$place/general.encoder" general "$student" --task.unlabelled "$table")
        student=$place/general.encoder
        file=vanilla ;;
    esac
    status=0
    "${first[@]}" && distill "$place/$method" "$file" "$student" "${teacher[@]}" || status=$?
    # 2: this task or student does not fit the method.
    [[ $status -eq 2 ]] && echo "left out: $method" && continue
    [[ $status -eq 0 ]] || exit "$status"
    "${launch[@]}" experiments/evaluate.py --model "$place/$method" --teacher "$run/teacher" --table "$TEST" \
        --domain="$genre" --out "$place/$method.json"
    evaluations+=("$place/$method.json")
done
python experiments/methods_report.py --evaluations "$(IFS=,; echo "${evaluations[*]}")" --out "$place.md"
