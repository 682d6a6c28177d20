"""Distil a student, stage by stage, as the method file says."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.config import StudentFromTeacher, Task
from metakd.errors import InputError, nearest
from metakd.manifests import write_json
from metakd.methods import PRETRAINED, Method, Stage
from metakd.steps import Step


def main(
    task: Task,
    method: Method,
    out: Path,
    teacher: str | list[str] | None = None,
    logits: str | None = None,
    domain: str = "",
    fraction: float = 1.0,
    stage: str | None = None,
) -> None:
    """Distil a student for one domain; the result is a plain Hugging Face classifier.

    Runs under python or torchrun. A teacher's logits are computed once and kept in TEACHER.logits/.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.student '{layers: 2}'.
        method: method file (YAML); experiments/methods/README.md lists them.
        out: folder for the student; an encoder without classifier where the method trains none.
        teacher: folder of a trained classifier, or a list '[a, b, c]' whose predictions are averaged.
        logits: the teacher's logits in a file (guid, logit.LABEL ...), e.g. from predict.py, in place of those that
            --teacher would compute; that is then needed for other features alone.
        domain: whose rows the student learns from and is for; all rows by default.
        fraction: share of the domain's labels that may be seen; its other rows count as unlabelled.
        stage: run this stage alone; let --task.student name the folder of the stage before.
    """
    stages = [s for s in method.stages if stage in (None, s.name)]
    known = [s.name for s in method.stages]
    if not stages:
        raise InputError(f"--stage {stage}: the method's stages are {known}{nearest(str(stage), known)}")
    method.check_stages(task)
    teachers = [str(name) for name in (teacher if isinstance(teacher, list) else [teacher]) if name]
    check_sources(task, stages, teachers, logits)
    inputs: dict[str, str | Path] = {"train": task.train}
    cut = isinstance(task.student, StudentFromTeacher) and task.student.of == "teacher"
    if not (cut or isinstance(task.student, str)) or any(s.teacher == PRETRAINED for s in stages):
        inputs["pretrained"] = task.teacher
    inputs |= {f"teacher {i}": name for i, name in enumerate(teachers, 1)}
    inputs |= {f"teacher of {s.name}": s.teacher for s in stages if s.teacher not in (None, PRETRAINED)}
    if any(s.select == "dev" for s in stages):
        inputs["dev"] = task.dev
    if any("extra" in s.rows for s in stages):
        inputs["unlabelled"] = str(task.unlabelled)
    if logits is not None:
        inputs["logits"] = logits
    config = {**task.settings(*known), "method": method, "domain": domain, "fraction": fraction, "stage": stage}
    if isinstance(task.student, str):
        inputs["student"] = task.student
    else:
        config["student"] = task.student
    step = Step(out, config, inputs, {"task": task, "method": method, "teacher": teachers, "logits": logits})
    if step.finished():
        return
    from metakd.data.labels import Labels
    from metakd.data.tables import names
    from metakd.models.folders import ModelInfo, save_model
    from metakd.training.distillation import prepare
    from metakd.training.runtime import Together, start
    from metakd.training.sources import Target
    from metakd.training.students import trains_classifier

    found_labels, found_domains = names(task.train, task.problem)
    domains = task.domains or found_domains
    if domain and domain not in domains:
        raise InputError(f"--domain {domain}: the task's domains are {domains}{nearest(domain, domains)}")
    labels = task.labels or found_labels
    if not labels and trains_classifier(method.stages):
        raise InputError(f"{task.train} has no labels; name the classes with --task.labels")
    target = Target(Labels(tuple(labels or ["none", "one"]), task.problem), domains, domain, fraction)
    accelerator = start(task.training.precision, task.training.sharded)
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    beside = out.with_name(f"{out.name}.logits")
    prepared = prepare(task, method, stages, target, teachers, logits, beside, accelerator)
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        histories, modules = prepared.train(step.scratch)
        if accelerator.is_main_process:
            student = prepared.student if trains_classifier(method.stages) else prepared.student.base_model
            save_model(folder, student, prepared.tokenizer, ModelInfo(domains, task.max_length), modules)
            write_json(folder / "history.json", histories)


def check_sources(task: Task, stages: list[Stage], teachers: list[str], logits: str | None) -> None:
    """Refuse a run that lacks a table, a teacher or logits that its stages need."""
    task.require("train")
    if any(stage.select == "dev" for stage in stages):
        task.require("dev")
    if logits is not None and not Path(logits).is_file():
        raise InputError(f"--logits: no file {logits!r}; make it with experiments/predict.py --columns logits")
    for stage in stages:
        if stage.teacher is None and stage.needs_inside and len(teachers) != 1:
            inner = ", ".join(sorted(stage.features - {"logits", "label"}))
            raise InputError(
                f"stage {stage.name} matches {inner}, for which one teacher is needed; --teacher names {len(teachers)}"
            )
        if stage.teacher is None and stage.needs_logits and not teachers and logits is None:
            raise InputError(
                f"stage {stage.name} learns from a teacher's logits; name --teacher FOLDER or --logits FILE"
            )
    if isinstance(task.student, StudentFromTeacher) and task.student.of == "teacher" and len(teachers) != 1:
        raise InputError(
            f"task.student is cut from the teacher, and --teacher names {len(teachers)}; cut it from the pretrained "
            f"encoder with --task.student '{{layers: {task.student.layers}, of: pretrained}}'"
        )


if __name__ == "__main__":
    run(main)
