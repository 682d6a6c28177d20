"""Distil a student for one domain, stage by stage, as the method file says (Meta-KD, section 3.3)."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.config import Task, folder_name
from metakd.errors import InputError, nearest
from metakd.manifests import write_json
from metakd.methods import Method
from metakd.steps import Step


def main(task: Task, method: Method, teacher: Path, domain: str, out: Path, stage: str | None = None) -> None:
    """Distil a student for one domain; the result is a plain Hugging Face classifier.

    Runs under python or torchrun. The teacher's logits are computed once and kept in TEACHER.logits/.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.student '{layers: 2}'.
        method: method file (YAML).
        teacher: folder that train_teacher.py wrote.
        domain: whose rows the student learns from and is for.
        out: folder for the student.
        stage: run this stage alone; let --task.student name the folder of the stage before.
    """
    task.require("train", "dev")
    stages = [s for s in method.stages if stage in (None, s.name)]
    known = [s.name for s in method.stages]
    if not stages:
        raise InputError(f"--stage {stage}: the method's stages are {known}{nearest(str(stage), known)}")
    method.check_stages(task)
    inputs: dict[str, str | Path] = {"train": task.train, "dev": task.dev, "teacher": teacher}
    config = {**task.settings(*known), "method": method, "domain": domain, "stage": stage}
    if isinstance(task.student, str):
        inputs["student"] = task.student
    else:
        config["student"] = task.student
    step = Step(out, config, inputs, {"task": task, "method": method, "teacher": str(teacher)})
    if step.finished():
        return
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from metakd.data.encoding import EncodedRows, encode, load_tokenizer
    from metakd.data.tables import names
    from metakd.models.classifier import check_tokenizer, label_names, label_order, load_classifier
    from metakd.models.folders import ModelInfo, load_domain_head, load_info, save_model
    from metakd.objectives.distillation import DistillationObjective
    from metakd.objectives.terms import formula, needs
    from metakd.training.loop import fit
    from metakd.training.problems import DistillationProblem
    from metakd.training.runtime import Together, seed_everything, start
    from metakd.training.students import bind_method, row_weights, start_student, student_head
    from metakd.training.teacher_outputs import TeacherViews, cached_logits

    info = load_info(teacher)
    if info is None:
        raise InputError(f"--teacher {teacher}: no folder that train_teacher.py wrote")
    found_labels, _ = names(task.train)
    labels = task.labels or found_labels
    if domain not in info.domains:
        raise InputError(f"--domain {domain}: the teacher knows {info.domains}{nearest(domain, info.domains)}")
    accelerator = start(task.training.precision)
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    seed_everything(task.training.seed)
    teacher_model = load_classifier(str(teacher), labels)
    teacher_tokenizer = load_tokenizer(str(teacher))
    loaded = load_domain_head(teacher, teacher_model.config.hidden_size)
    teacher_head = loaded[0].to(accelerator.device) if loaded else None
    check_tokenizer(teacher_model, teacher_tokenizer, task.max_length, str(teacher))
    student, tokenizer = start_student(task, teacher_model, teacher_tokenizer)
    bound = bind_method(method, teacher_model, student, teacher_tokenizer, tokenizer, teacher_head)
    student_labels = label_names(student.config)
    order = label_order(label_names(teacher_model.config), student_labels, str(teacher))

    def of_domain(path: str, of: PreTrainedTokenizerBase) -> EncodedRows:
        rows = encode(path, of, task.max_length, student_labels, info.domains)
        if not len(rows := rows.of_domain(info.domains.index(domain))):
            raise InputError(f"{path} has no row of domain {domain!r}")
        return rows

    rows, dev = of_domain(task.train, tokenizer), of_domain(task.dev, tokenizer)
    teacher_model.to(accelerator.device)
    cache = Step(
        teacher.with_name(f"{teacher.name}.logits") / folder_name(domain),
        {"max_length": task.max_length, "domain": domain, "precision": accelerator.mixed_precision},
        {"train": task.train, "teacher": teacher},
    )
    logits = cached_logits(cache, teacher_model, of_domain(task.train, teacher_tokenizer), order, accelerator)
    weights = {s.name: row_weights(s, rows, logits) for s in stages}
    seed_everything(task.training.seed)
    head = student_head(teacher_head, student, task.student)
    beside: dict[str, nn.Module | None] = {"domain_head": head}
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        history = {}
        for current in stages:
            terms, need = bound[current.name], needs(bound[current.name])[0]
            accelerator.print(f"{domain}, stage {current.name}: {formula(terms, current.row_weight)}")
            # Fresh projections are the same in a run that goes on, and in a stage that runs alone.
            seed_everything(task.training.seed, known.index(current.name))
            objective = DistillationObjective(student, terms, teacher_model.config, head if need.transferable else None)
            beside[f"projections-{current.name}"] = objective.projections
            views = TeacherViews(logits, teacher_model, need, teacher_head)
            problem = DistillationProblem(objective, current, rows, dev, weights[current.name], views, accelerator)
            epochs = task.epochs.get(current.name, current.epochs)
            learning_rate = task.learning_rates.get(current.name, current.learning_rate)
            place = step.scratch / f"training-{current.name}"
            progress = fit(problem, accelerator, epochs, learning_rate, task.training, place)
            history[current.name] = progress.summary()
        if accelerator.is_main_process:
            save_model(folder, student, tokenizer, ModelInfo(info.domains, task.max_length), beside)
            write_json(folder / "history.json", history)


if __name__ == "__main__":
    run(main)
