"""Train the meta-teacher on all domains (Meta-KD, section 3.2)."""

from __future__ import annotations

from pathlib import Path

from metakd import manifests
from metakd.cli import run
from metakd.config import MetaTeacher, Task
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.steps import Step

EPOCHS, LEARNING_RATE = 3, 5e-5  # unless the task file says otherwise
WEAK = (
    "the teacher's dev accuracy does not beat the majority class; train it longer or at another rate, or hand it on "
    "all the same with --allow_weak true"
)


def main(
    task: Task,
    out: Path,
    meta: MetaTeacher = MetaTeacher(),
    allow_weak: bool = False,
) -> None:
    """Train a teacher on all domains with prototype weights and a domain loss; keeps the best epoch on dev.

    Runs under python or torchrun. The training table needs the weight column that prototype_weights.py writes.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.training.seed 2.
        out: folder for the teacher, a plain Hugging Face classifier with its domain head beside it.
        meta: what makes it a meta-teacher.
        allow_weak: hand on a teacher that does not beat the majority class on dev.
    """
    task.require("train", "dev")
    config = {**task.settings("teacher"), "meta": meta}
    inputs: dict[str, str | Path] = {"train": task.train, "dev": task.dev, "model": task.teacher}
    step = Step(out, config, inputs, {"task": task})
    if step.finished():
        if not (allow_weak or manifests.read(out / "history.json")["beats_majority"]):
            raise InputError(WEAK)
        return
    from metakd.data.encoding import encode, load_tokenizer
    from metakd.data.tables import names
    from metakd.evaluation.metrics import majority_accuracy
    from metakd.models.classifier import check_tokenizer, label_names, load_classifier
    from metakd.models.domain_head import DomainHead
    from metakd.models.folders import ModelInfo, save_model
    from metakd.training.loop import fit
    from metakd.training.problems import MetaTeacherProblem
    from metakd.training.runtime import Together, seed_everything, start

    accelerator = start(task.training.precision)
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    found_labels, found_domains = names(task.train)
    domains = task.domains or found_domains
    seed_everything(task.training.seed)
    model = load_classifier(task.teacher, task.labels or found_labels)
    labels = label_names(model.config)
    tokenizer = load_tokenizer(task.teacher)
    check_tokenizer(model, tokenizer, task.max_length, task.teacher)
    rows, dev = (encode(path, tokenizer, task.max_length, labels, domains) for path in (task.train, task.dev))
    if meta.row_weight == "prototype" and not rows.weighted:
        raise InputError(
            f"{task.train} has no weight column; make it with data_prep/prototype_weights.py, or train with "
            "--meta.row_weight uniform"
        )
    with_domain = len(domains) > 1 and meta.domain_loss_weight > 0
    if not with_domain:
        accelerator.print(f"no domain loss: {len(domains)} domain(s), domain_loss_weight {meta.domain_loss_weight}")
    head = DomainHead(model.config.hidden_size, len(domains)) if with_domain else None
    problem = MetaTeacherProblem(model, head, rows, dev, domains, meta, accelerator)
    epochs = task.epochs.get("teacher", EPOCHS)
    learning_rate = task.learning_rates.get("teacher", LEARNING_RATE)
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        progress = fit(problem, accelerator, epochs, learning_rate, task.training, step.scratch / "training")
        assert progress.best is not None
        score, majority = progress.best["dev"]["score"], majority_accuracy(dev.labels, dev.domains)
        accelerator.print(f"best epoch {progress.best['epoch']}: dev accuracy {score:.4f}, majority {majority:.4f}")
        if score <= majority and not allow_weak:
            raise InputError(WEAK)
        if accelerator.is_main_process:
            info = ModelInfo(domains, task.max_length)
            save_model(folder, model, tokenizer, info, {"domain_head": head})
            write_json(folder / "history.json", {**progress.summary(), "beats_majority": score > majority})


if __name__ == "__main__":
    run(main)
