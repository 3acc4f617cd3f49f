"""Make one artefact of a plan: the function that every command and every Dagster asset goes through."""

import importlib

from pipelines.configs.base import StageConfig
from pipelines.recipes.experiment import Experiment
from pipelines.recipes.plan import DATA_STAGES, Plan, Step
from pipelines.store.report import Report
from pipelines.store.store import Store

# Stage -> module with `run(config, store) -> Report`. Imported on use: only the learning stages pull in torch.
MODULES = {
    "collected_replay": "pipelines.collect",
    "replay": "pipelines.fetch",
    "trajectories": "pipelines.downsample",
    "segments": "pipelines.segment",
    "pretrained": "pipelines.pretrain",
    "tokens": "pipelines.tokenize",
    "world_action_model": "pipelines.train",
    "imported": "pipelines.import_jowa",
    "finetuned": "pipelines.finetune",
    "tuned": "pipelines.tune",
    "scores": "pipelines.evaluate",
    "leaderboard": "pipelines.report",
}


def run_config(config: StageConfig, store: Store) -> Report:
    """Run the stage that `config` belongs to, or find its artefact (then nothing is imported)."""
    if (found := store.find(config.spec().ref)) is not None:
        return Report(found, skipped=True)
    return importlib.import_module(MODULES[config.STAGE]).run(config, store)


def make(plan: Plan, step: Step, store: Store, experiment: Experiment | None = None) -> Report:
    """Run one step of a plan and let its name point at the result (`scores/<experiment>/<game>`)."""
    report = run_config(plan.config(step), store)
    store.point(pointer(step, experiment), report.artefact.ref)
    return report


def pointer(step: Step, experiment: Experiment | None) -> str:
    """The name people use for a step's artefact: with the experiment's key, except for plain data."""
    parts = [step.stage]
    if experiment is not None and step.stage not in DATA_STAGES:
        parts.append(experiment.key)
    elif step.stage not in DATA_STAGES:
        parts.append("unregistered")
    parts += [str(part) for part in (step.game, step.agent) if part is not None]
    return "/".join(parts)
