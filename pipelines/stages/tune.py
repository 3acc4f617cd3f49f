"""Stage `tuned`: which context, width, horizon and leaf value a planner plays a game best with, by trying them.

Every setting plays the same episodes, on seeds from which no score is reported (pipelines/evaluation/session.py); the
evaluation with the best setting then plays others. A kill loses only what was being played.
The manifest holds the whole grid: a lead over the next setting that is within its standard error is no finding.
Run: `worldline evaluate EXPERIMENT --planner beam --set tune.contexts=1,2,4 --set tune.widths=2,4`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.environments.registry import canonical, options, protocol
from pipelines.environments.rollout import Episode, play
from pipelines.errors import UsageError, unknown
from pipelines.evaluation.episode_log import episode_table, summary
from pipelines.evaluation.player_settings import (
    PLANNERS,
    Entrant,
    GridConfig,
    SearchConfig,
    _entrant,
)
from pipelines.evaluation.session import Sitting, selection_seeds
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, manner, option
from pipelines.store.store import Store


@dataclass(frozen=True)
class TuneConfig(StageConfig):
    """Play every setting of `grid`, whose axes are all filled, on seeds that are never reported.

    The other fields are those of the evaluation that the best setting is for.
    """

    STAGE: ClassVar[str] = "tuned"
    CODE: ClassVar[str] = "1"

    game: str = ""
    checkpoint: Ref | None = None
    pretrained: Ref | None = None
    grid: GridConfig = GridConfig()  # noqa: RUF009 -- frozen
    protocol: str = "jowa"
    planner: str = "beam"
    epsilon: float = 0.001
    max_steps: int = 0
    precision: str = "auto"
    search: SearchConfig = option(SearchConfig())
    rom_md5: str = option("")
    rom_dir: str = manner("")
    envs: int = manner(0)

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        if self.planner not in PLANNERS:
            raise unknown("planner", self.planner, PLANNERS, "'worldline evaluate --help' explains them")
        needed = ("contexts", "leaves") if self.planner == "greedy" else ("contexts", "widths", "horizons", "leaves")
        if empty := [name for name in needed if not getattr(self.grid, name)]:
            raise UsageError(f"A search for {self.planner} with no {empty[0]} is impossible: give at least one")

    @property
    def subject(self) -> str:
        return self.game


def run(config: TuneConfig, store: Store) -> Report:
    """Search on one game, or find what was found."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TuneConfig, draft: Draft) -> None:
    from pipelines.evaluation.players import AgentPlayer
    from pipelines.training.checkpoints import Networks
    from pipelines.training.device import pick

    given, device = options(config.game, config.rom_dir, config.rom_md5), pick(config.precision)
    tokenizer, model = Networks().load(config.game, config.checkpoint, config.pretrained, draft.parents, device)
    entrants, seeds = candidates(config), selection_seeds(config.grid.seed, config.grid.episodes)
    for who in entrants:
        who.require_fit(config.game, model.config)
    played: list[list[Episode]] = []
    for number, who in enumerate(entrants, start=1):
        folder = draft.scratch / _name(who)
        folder.mkdir(exist_ok=True)
        sitting = Sitting.of(config.game, config.protocol, folder, config.envs, given)
        table = sitting.table(who, seeds)
        if table.seeds:
            player = AgentPlayer(who, [config.game] * table.rows, model, tokenizer, device.autocast)
            play(table, player, f"Search {config.game}, {_name(who)} ({number} of {len(entrants)})")
        played.append(sitting.played(who, seeds))
    rows = grid(entrants, played)
    episode_table({_name(who): episodes for who, episodes in zip(entrants, played, strict=True)}).to_parquet(
        draft.path("episodes.parquet"), index=False
    )
    pd.DataFrame(rows).to_csv(draft.path("grid.csv"), index=False)
    best = max(rows, key=lambda row: row["mean"])  # of equals the first, which is the cheapest
    draft.metrics |= {"best": best, "grid": rows, "seeds": list(seeds), "device": str(device)}
    draft.roots.append(sitting.root())
    draft.counts |= {
        "settings": len(rows),
        "episodes": sum(map(len, played)),
        "steps": sum(episode.length for episodes in played for episode in episodes),
    }


def grid(entrants: Sequence[Entrant], played: Sequence[Sequence[Episode]]) -> list[dict[str, Any]]:
    """A row for each setting: its numbers, the statistics of its returns, and how far it is behind the best.

    `behind` is the mean difference to the best of returns on equal seeds, `behind_error` that mean's standard error
    (None for one episode).
    """
    returns = np.array([[episode.score for episode in episodes] for episodes in played])  # (settings, episodes)
    behind = returns[returns.mean(1).argmax()] - returns
    count = returns.shape[1]
    error = behind.std(1, ddof=1) / np.sqrt(count) if count > 1 else None
    return [
        {
            "planner": who.planner,
            "context": who.context,
            "width": who.width,
            "horizon": who.horizon,
            "leaf": who.search.leaf,
            **summary(episodes),
            "behind": round(float(behind[place].mean()), 4),
            "behind_error": None if error is None else round(float(error[place]), 4),
        }
        for place, (who, episodes) in enumerate(zip(entrants, played, strict=True))
    ]


def _name(who: Entrant) -> str:
    """Of a setting, as a folder may be called."""
    numbers = {"context": who.context, "width": who.width, "horizon": who.horizon, "leaf": who.search.leaf}
    return "-".join(f"{name}{value}" for name, value in numbers.items() if value)


def candidates(config: TuneConfig) -> list[Entrant]:
    """Every setting of a search, the cheaper first: equal scores then go to it."""
    grid, episodes = config.grid, config.grid.episodes
    axes = product(sorted(grid.widths) or [0], sorted(grid.horizons) or [0], sorted(grid.contexts), grid.leaves)
    return [
        _entrant(
            config.planner, episodes, config.max_steps, context, config.epsilon, width, horizon,
            replace(config.search, leaf=leaf),
        )
        for width, horizon, context, leaf in axes
    ]  # fmt: skip
