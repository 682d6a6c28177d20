"""Train a translator: the teacher, or a student by any of the translation methods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metakd.cli import run
from metakd.config import scaled
from metakd.manifests import write_json
from metakd.paths import beside
from metakd.steps import Step
from metakd.translation.plan import Role, plan_translator
from metakd.translation.settings import TranslationMethod, TranslationTask


def main(
    task: TranslationTask,
    method: TranslationMethod,
    out: Path,
    role: Role = "student",
    teacher: str | None = None,
    translations: Path | None = None,
    remake: bool = False,
) -> None:
    """Train one of a task's two translators; the result is a plain Hugging Face encoder-decoder.

    Runs under python or torchrun. A killed run resumes. The teacher itself is trained by translation_reference.yaml.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.training.seed 2.
        method: method file (YAML); experiments/translation/README.md lists them.
        out: folder for the model.
        role: which of the task's models is trained.
        teacher: folder of the trained teacher, for methods with logits and for students cut from it.
        translations: the teacher's translations of task.train, by translate.py, for methods whose targets they are.
        remake: make the model anew if other code made it.
    """
    plan = plan_translator(task, method, role, teacher, translations)
    step = Step(out, plan.settings, plan.inputs, {"task": task, "method": method}, remake=remake)
    if step.finished():
        return
    from metakd.data.tables import write_rows
    from metakd.models.model_io import ModelInfo, save_model
    from metakd.training.loop import epochs_of, fit
    from metakd.training.runtime import Together, start_training
    from metakd.translation.targets import target_rows
    from metakd.translation.training import prepare_translator

    accelerator = start_training(task.training, beside(out, ".logs"))
    accelerator.init_trackers("translator")
    step.resolved |= {"precision": accelerator.mixed_precision, "device": accelerator.device.type}
    train = Path(task.train)
    if translations is not None:
        targets = Step(beside(out, ".targets.tsv"), {"targets": method.targets},
                       {"train": task.train, "translations": translations}, file=True, remake=remake)  # fmt: skip
        with targets.workspace(Together(accelerator)) as file:
            if file is not None and accelerator.is_main_process:
                write_rows(file, target_rows(train, translations, method.targets), ".tsv")
        train = targets.out
    prepared = prepare_translator(task, method, role, train, teacher, accelerator)
    scaled_epochs, min_steps = scaled(method, task.epochs_scale)
    budget = replace(method, epochs=scaled_epochs, min_steps=min_steps)
    epochs = epochs_of(budget, prepared.job.rows.lengths, task.training, role)
    parameters = sum(p.numel() for p in prepared.model.parameters())
    pairs = len(prepared.job.rows)
    accelerator.print(f"{role}: {parameters / 1e6:.2f} million parameters, {pairs} pairs, {epochs} epochs")
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        progress = fit(prepared.job, accelerator, epochs, method.learning_rate, task.training,
                       step.scratch / "training", role)  # fmt: skip
        if accelerator.is_main_process:
            info = ModelInfo([], task.max_length, starts_from=prepared.starts_from)
            prepared.model.generation_config.max_new_tokens = task.max_length  # transformers' own limit is 20
            save_model(folder, prepared.model, prepared.tokenizer, info, {})
            write_json(folder / "history.json", {**progress.summary(), "parameters": parameters})
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
