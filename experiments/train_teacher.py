"""Train the teacher that a method file describes."""

from __future__ import annotations

from pathlib import Path

from metakd import manifests
from metakd.cli import run
from metakd.config import Task
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.methods.method import Method
from metakd.paths import beside
from metakd.steps import Step
from metakd.training.plan import DomainSelection, plan_teacher

WEAK = (
    "the teacher's dev score does not beat a constant prediction; train it longer or at another rate (teacher.epochs, "
    "teacher.learning_rate), or save it all the same with --allow_weak true"
)


def main(
    task: Task,
    method: Method,
    out: Path,
    domain: str = "",
    exclude_domain: str = "",
    fraction: float = 1.0,
    allow_weak: bool = False,
    remake: bool = False,
) -> None:
    """Train a teacher, keep its best epoch on dev, and write it as a plain Hugging Face classifier.

    Runs under python or torchrun. A teacher weighted by prototypes needs the table of prototype_weights.py:
    --task.train TABLE. A killed run resumes; losses go to Accelerate's trackers (--task.training.log_with).

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.training.seed 2.
        method: method file (YAML), for its `teacher`; any field can be overridden, e.g. --method.teacher.epochs 3.
        out: folder for the teacher; for teacher.kind mtl, OUT/DOMAIN is the model of each domain.
        domain: the domain of a teacher of kind single or multi; the domain that --fraction is about.
        exclude_domain: leave this domain out, for zero-shot distillation.
        fraction: fraction of the labels of --domain that are visible, stratified and nested: 0.01 lies inside 0.02.
        allow_weak: save a teacher even if it does not beat a constant prediction on dev.
        remake: make the teacher anew if other code made it.
    """
    plan = plan_teacher(task, method, DomainSelection(domain, fraction, exclude_domain))
    allow_weak = allow_weak or plan.recipe.kind == "multi"  # the others make up for it in the average
    step = Step(out, plan.settings, plan.inputs, {"task": task, "method": method}, remake=remake)
    if step.finished():
        if manifests.read_json(out / "history.json").get("beats_baseline") is False and not allow_weak:
            raise InputError(WEAK)
        return
    from metakd.data.labels import Labels
    from metakd.data.tables import label_and_domain_names
    from metakd.evaluation.metrics import baseline
    from metakd.training.loop import epochs_of
    from metakd.training.runtime import Together, start_training
    from metakd.training.soups import fit_soup
    from metakd.training.teacher_training import prepare_teacher

    label_names, domain_names = label_and_domain_names(task.train, task.problem)
    if not label_names:
        raise InputError(f"{task.train}: no row has a label; a teacher needs the column 'label'")
    domains = task.domains or domain_names
    plan.selection.check_domains(domains)
    accelerator = start_training(task.training, beside(out, ".logs"))
    accelerator.init_trackers("teacher")
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    labels = Labels(tuple(task.labels or label_names), task.problem)
    teacher = prepare_teacher(plan, labels, domains, accelerator)
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        recipe, lengths = plan.recipe, teacher.job.rows.lengths
        soup = fit_soup(
            recipe.soup, teacher.job, accelerator, epochs_of(recipe, lengths, task.training, "teacher"),
            recipe.learning_rate, task.training, step.scratch, "teacher",
        )  # fmt: skip
        beats_baseline = None  # not known without dev labels
        if soup.scores is not None:
            constant = baseline(teacher.dev.labels, teacher.dev.domains, labels.problem, task.select_by)
            accelerator.print(f"{soup}: dev {soup.scores['score']:.4f}, constant prediction {constant:.4f}")
            beats_baseline = soup.scores["score"] > constant
        if beats_baseline is False and not allow_weak:
            raise InputError(WEAK)
        if accelerator.is_main_process:
            teacher.save(folder)
            write_json(folder / "history.json", {**soup.history(), "beats_baseline": beats_baseline})
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
