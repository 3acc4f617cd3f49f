"""Evaluations without playing: scores artefacts with given returns, made through the real store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipelines.environments.registry import emulator_seeds
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests.fakes import fill

ROM = "8e0ab801b1705a740b476b7f588c6d16"


def checkpoint(store: Store, **config: Any) -> Artefact:
    """Something to be evaluated."""
    return store.produce(Spec("world_action_model", "tiny", "1", config), fill()).artefact


def scores(
    store: Store,
    seed: int,
    returns: Mapping[str, Sequence[float]],
    game: str = "Freeway",
    emulator: str = "ale-py 0.12.1",
    code: str = EvaluateConfig.CODE,
    settings: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    **config: Any,
) -> Artefact:
    """One evaluation, `config` being fields of EvaluateConfig; `seeds` are its episodes' in place of the seed's own."""
    parent = checkpoint(store).ref
    asked = EvaluateConfig(game=game, agent=config.pop("checkpoint", parent), seed=seed, **config).spec()

    def build(draft: Draft) -> None:
        rows = [
            {"planner": name, "episode": number, "seed": found, "return": value, "ended": "terminated"}
            for name, values in returns.items()
            for number, (value, found) in enumerate(
                zip(values, seeds or emulator_seeds(seed, len(values)), strict=False)
            )
        ]
        pd.DataFrame(rows).to_parquet(draft.path("episodes.parquet"))
        for name, values in returns.items():
            draft.metrics[name] = {"mean": sum(values) / len(values), "episodes": len(values)}
            if name != "random":
                draft.metrics[name]["settings"] = dict(settings or {"context": 2})
        draft.roots.append({"game": game, "emulator": emulator, "rom_md5": ROM, "sticky": 0.25, "max_steps": 27_000})

    return store.produce(Spec(asked.stage, asked.subject, code, asked.config, asked.parents), build).artefact


def dated(artefact: Artefact, created: str, **changes: Any) -> Artefact:
    """The same as if it had been made at another time, or on another machine."""
    return replace(artefact, manifest=replace(artefact.manifest, created=created, **changes))
