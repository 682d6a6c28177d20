# Sourced by the scripts of this folder: settings from the environment, and the plan of a method.
#   TASK       task file, or its name in experiments/tasks/     METHOD         method file
#   RUN        run folder, default runs/<task>                  METHOD_FOLDER  what belongs to the method, default RUN/METHOD
#   NPROC      processes                                       OVERRIDES      options, e.g. "--task.training.seed 2"
#   STUDENT    student, default that of the task file  REMAKE=1       make anew what other code made
#   VERIFY=1   compare the hashes of finished outputs' files
TASK=${TASK:-review_snippets}
[[ $TASK == *.yaml ]] || TASK=experiments/tasks/$TASK.yaml
METHOD=${METHOD:-experiments/methods/recommended.yaml}
RUN=${RUN:-runs/$(basename "${TASK%.yaml}")}
METHOD_NAME=$(basename "${METHOD%.yaml}")
METHOD_FOLDER=${METHOD_FOLDER:-$RUN/$METHOD_NAME}
read -ra overrides <<<"${OVERRIDES:-}"
settings=(--task "$TASK" --method "$METHOD" "${overrides[@]}")
[[ -n ${STUDENT:-} ]] && settings+=(--task.student "$STUDENT")
remake=()
[[ ${REMAKE:-0} == 1 ]] && remake=(--remake true)
[[ ${VERIFY:-0} == 1 ]] && remake+=(--verify true)
launch=(python)
[[ ${NPROC:-1} -gt 1 ]] && launch=(python -m metakd.launch --standalone --nproc_per_node "$NPROC")

step() { printf '\n== %s (%s)\n' "$1" "$(date +%H:%M:%S)"; }

# plan [option ...]: check task and method, and set EMBEDDINGS, TABLE, HIDDEN, TEACHERS, TEACHER_OPTIONS, DOMAINS,
# STUDENTS, STUDENT_OPTIONS, EVALUATIONS, LABELS, TEACHERS_OF, TRAIN and TEST (see check_task.py).
plan() {
    local facts
    facts=$(python experiments/check_task.py "${settings[@]}" --run_folder "$RUN" --method_folder "$METHOD_FOLDER" \
        --new_domain "${NEW_DOMAIN:-false}" "$@") ||
        return $?
    eval "$facts"
}
