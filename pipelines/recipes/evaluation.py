"""How a checkpoint is asked to play: its recipe's evaluation, with changes, and many of them in one process."""

from collections.abc import Iterator, Sequence

from pipelines.configs.learn import EvaluateConfig
from pipelines.errors import UsageError
from pipelines.recipes.freeze import override
from pipelines.recipes.plan import Plan, Step
from pipelines.recipes.recipe import Recipe
from pipelines.recipes.run import run_config
from pipelines.store.report import Report
from pipelines.store.store import Store

OWN = ("evaluate.", "tune.")  # the fields of a recipe that say how a checkpoint plays


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with other ways to play. Raises UsageError for a change of anything else."""
    for change in changes:
        if not change.startswith(OWN):
            raise UsageError(
                f"'{change}' would change more than how the checkpoint plays: set evaluate.FIELD here, or make another "
                "experiment"
            )
    return override(recipe, *changes)


def evaluate_config(plan: Plan, step: Step) -> EvaluateConfig:
    """The plan's config of a step `scores`."""
    config = plan.config(step)
    assert isinstance(config, EvaluateConfig)
    return config


def play_all(configs: Sequence[EvaluateConfig], store: Store, together: int = 1) -> Iterator[Report]:
    """`evaluate.run_all`, which imports PyTorch, where anything is to be played; else what stands."""
    if all(store.find(config.spec().ref) is not None for config in configs):
        return (run_config(config, store) for config in configs)
    from pipelines.evaluate import run_all

    return run_all(configs, store, together)
