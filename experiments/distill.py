"""Distil a student, stage by stage, as a method file says."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.config import Task
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.methods.method import Method
from metakd.paths import beside
from metakd.steps import Step
from metakd.training.plan import DomainSelection, plan_distillation


def main(
    task: Task,
    method: Method,
    out: Path,
    teacher: str | list[str] | None = None,
    logits: str | None = None,
    domain: str = "",
    fraction: float = 1.0,
    stage: str | None = None,
    name: str = "",
    remake: bool = False,
) -> None:
    """Distil a student for one domain; the result is a plain Hugging Face classifier.

    Runs under python or torchrun. A killed run resumes. A teacher's logits are computed once, in TEACHER.logits/. The
    teacher may be anyone's: where it is not what the method file describes, the log and the results say so.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.student '{layers: 2}'.
        method: method file (YAML); experiments/methods/README.md lists them.
        out: folder for the student; an encoder without classifier if the method trains none.
        teacher: folder of a trained classifier, or a list '[a, b, c]' whose predictions are averaged.
        logits: file with the teacher's logits (guid, logit.LABEL ...), e.g. from predict.py. They are used instead of
            computing them; --teacher is then needed only for hidden-state or attention terms.
        domain: whose rows the student learns from and is for; all rows by default.
        fraction: fraction of the domain's labels that are visible; its other rows count as unlabelled.
        stage: run this stage alone; let --task.student name the folder of the stage before.
        name: what results call the method; its file's name in the shell scripts.
        remake: make the student anew if other code made it.
    """
    teachers = [str(item) for item in (teacher if isinstance(teacher, list) else [teacher]) if item]
    selection = DomainSelection(domain, fraction)
    plan = plan_distillation(task, method, selection, beside(out, ".logits"), teachers, logits, stage)
    resolved = {"task": task, "method": method, "method_name": name, "teacher": teachers, "logits": logits}
    step = Step(out, plan.settings, plan.inputs, resolved, remake=remake)
    if step.finished():
        return
    from metakd.data.labels import Labels
    from metakd.data.task_names import labels_and_domains
    from metakd.models.model_io import ModelInfo, save_model
    from metakd.training.distillation import distill
    from metakd.training.prepared import prepare
    from metakd.training.runtime import Together, start_training

    labels, domains = labels_and_domains(task, selection.domain)
    selection.check_domains(domains)
    if not labels.names and method.trains_classifier:
        if labels.domain:
            raise InputError(
                f"{task.train} has no label of domain {labels.domain!r}, whose classes are its own; add some"
            )
        raise InputError(f"{task.train} has no labels; name the classes with --task.labels")
    if not labels.names:  # an encoder's head is thrown away
        labels = Labels(("none", "one"), task.problem, labels.domain)
    accelerator = start_training(task.training, beside(out, ".logs"))
    accelerator.init_trackers("student")
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    prepared = prepare(plan, labels, domains, accelerator)
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        histories = distill(prepared, step.scratch)
        if accelerator.is_main_process:
            student = prepared.student if method.trains_classifier else prepared.student.base_model
            info = ModelInfo(
                domains, task.max_length, starts_from=prepared.starts_from, notes=prepared.notes,
                own_labels_of=prepared.labels.domain,
            )  # fmt: skip
            save_model(folder, student, prepared.tokenizer, info, prepared.auxiliary_modules)
            write_json(folder / "history.json", histories)
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
