#!/usr/bin/env bash
# A new domain with few labels: what do they give alone, and what with a teacher of the other domains?
#   experiments/few_labels.sh GENRE [FRACTION]     FRACTION of the genre's labels that may be seen, default 0.015
# The meta-teacher and its weights never see the genre's labels. Three students, which start alike from the pretrained
# encoder: label_only (the few labels), all_domains (the teacher on every domain's rows), few_labels (the teacher on the
# genre's unlabelled rows, and the labels). The few labels get about as many optimizer steps.
# Environment: TASK (task file), RUN (run folder with the embeddings of run_all.sh), NPROC, LAYERS (default 3),
# OVERRIDES (more options for the task, e.g. "--task.training.seed 2").
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -lt 1 || $# -gt 2 ]]; then sed -n '2,8s/^# //p' "$0" >&2; exit 2; fi

genre=$1
fraction=${2:-0.015}
task=${TASK:-experiments/tasks/review_snippets.yaml}
run=${RUN:-runs/review_snippets}
read -ra overrides <<<"${OVERRIDES:-}"
if [[ ${NPROC:-1} -gt 1 ]]; then launch=(torchrun --standalone --nproc_per_node "$NPROC"); else launch=(python); fi
facts=$(python experiments/check_task.py --task "$task" "${overrides[@]}" --genre="$genre")
eval "$facts"
place=$run/few_labels/${FOLDERS[0]}-$fraction
weighted=$place/train.weighted.tsv
overrides+=("--task.student={layers: ${LAYERS:-3}, of: pretrained}")
mkdir -p "$place"

python data_prep/prototype_weights.py --table "$TRAIN" --embeddings "$run/embeddings" --exclude_domain="$genre" \
    --out "$weighted"
"${launch[@]}" experiments/train_teacher.py --task "$task" "${overrides[@]}" --task.train "$weighted" \
    --exclude_domain="$genre" --out "$place/teacher"
evaluations=()
for method in label_only all_domains few_labels; do
    case $method in
    label_only) options=(--task.epochs '{prediction: 200}') ;;
    all_domains) options=(--teacher "$place/teacher" --task.epochs '{prediction: 2}') ;;
    few_labels) options=(--teacher "$place/teacher" --task.epochs '{prediction: 8}') ;;
    esac
    "${launch[@]}" experiments/distill.py --task "$task" "${overrides[@]}" --task.train "$weighted" --domain="$genre" \
        --fraction "$fraction" --method "experiments/methods/$method.yaml" "${options[@]}" --out "$place/$method"
    "${launch[@]}" experiments/evaluate.py --model "$place/$method" --teacher "$place/teacher" --table "$TEST" \
        --domain="$genre" --out "$place/$method.json"
    evaluations+=("$place/$method.json")
done
python experiments/methods_report.py --evaluations "$(IFS=,; echo "${evaluations[*]}")" --out "$place.md"
