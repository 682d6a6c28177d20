"""Train a teacher: on one domain, on all of them, with a head for each, or the meta-teacher of Meta-KD."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from metakd import manifests
from metakd.cli import run
from metakd.config import MetaTeacher, Task
from metakd.errors import InputError, nearest
from metakd.manifests import write_json
from metakd.steps import Step

EPOCHS, LEARNING_RATE = 3, 5e-5  # unless the task file says otherwise
WEAK = (
    "the teacher's dev score does not beat a constant prediction; train it longer or at another rate, or hand it on "
    "all the same with --allow_weak true"
)


def main(
    task: Task,
    out: Path,
    kind: Literal["meta", "mix", "single", "mtl"] = "meta",
    domain: str = "",
    exclude_domain: str = "",
    fraction: float = 1.0,
    meta: MetaTeacher = MetaTeacher(),
    allow_weak: bool = False,
) -> None:
    """Train a teacher, keep its best epoch on dev, and write it as a plain Hugging Face classifier.

    Runs under python or torchrun. A meta-teacher's table needs the weight column of prototype_weights.py.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.training.seed 2.
        out: folder for the teacher; for mtl the folder OUT/DOMAIN of each domain is a model of its own.
        kind: "meta" trains on all domains with prototype weights and a domain loss; "mix" on all domains; "single"
            on --domain alone; "mtl" shares the encoder between the domains and has a classification head for each.
        domain: the one of "single"; the one that --fraction is about.
        exclude_domain: leave this domain out, for zero-shot distillation.
        fraction: share of the labels of --domain that may be seen, stratified by class and nested: 0.01 is inside 0.02.
        meta: what makes a meta-teacher.
        allow_weak: hand on a teacher that does not beat a constant prediction on dev.
    """
    task.require("train", "dev")
    if (kind == "single" or fraction != 1) and not domain:
        raise InputError(f"--kind {kind} --fraction {fraction}: name the domain with --domain")
    if domain and kind != "single" and fraction == 1:
        raise InputError(f"--domain {domain} has no use in --kind {kind} without --fraction; leave it out")
    if domain and domain == exclude_domain:
        raise InputError(f"--exclude_domain {exclude_domain} is --domain too")
    if kind != "meta":
        meta = MetaTeacher(row_weight="uniform", domain_loss_weight=0.0)
    rows_from = {"kind": kind, "domain": domain, "exclude_domain": exclude_domain, "fraction": fraction}
    inputs: dict[str, str | Path] = {"train": task.train, "dev": task.dev, "model": task.teacher}
    step = Step(out, {**task.settings("teacher"), **rows_from, "meta": meta}, inputs, {"task": task})
    if step.finished():
        if not (allow_weak or manifests.read(out / "history.json")["beats_baseline"]):
            raise InputError(WEAK)
        return
    from metakd.data.labels import Labels
    from metakd.data.tables import names
    from metakd.evaluation.metrics import baseline
    from metakd.training.loop import fit
    from metakd.training.runtime import Together, seed_everything, start
    from metakd.training.teacher_kinds import Selection, load_material, mtl_teacher, one_teacher

    found_labels, found_domains = names(task.train, task.problem)
    if not found_labels:
        raise InputError(f"{task.train}: no row has a label; a teacher needs the column 'label'")
    domains = task.domains or found_domains
    for option, name in (("--domain", domain), ("--exclude_domain", exclude_domain)):
        if name and name not in domains:
            raise InputError(f"{option} {name}: the task's domains are {domains}{nearest(name, domains)}")
    accelerator = start(task.training.precision, task.training.sharded)
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    labels = Labels(tuple(task.labels or found_labels), task.problem)
    taught = [domain] if kind == "single" else [name for name in domains if name != exclude_domain]
    seed_everything(task.training.seed)
    selection = Selection(domains, taught, domain, fraction)
    found = load_material(task, labels, selection, weighted=meta.row_weight == "prototype")
    teacher = mtl_teacher(found, accelerator) if kind == "mtl" else one_teacher(found, meta, accelerator)
    epochs = task.epochs.get("teacher", EPOCHS)
    learning_rate = task.learning_rates.get("teacher", LEARNING_RATE)
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        progress = fit(teacher.problem, accelerator, epochs, learning_rate, task.training, step.scratch / "training")
        assert progress.best is not None
        score, constant = progress.best["dev"]["score"], baseline(found.dev.labels, found.dev.domains, labels.problem)
        accelerator.print(f"best epoch {progress.best['epoch']}: dev {score:.4f}, constant prediction {constant:.4f}")
        if score <= constant and not allow_weak:
            raise InputError(WEAK)
        if accelerator.is_main_process:
            teacher.save(folder)
            write_json(folder / "history.json", {**progress.summary(), "beats_baseline": score > constant})


if __name__ == "__main__":
    run(main)
