"""Stage `tuned`: which context, width, horizon and leaf value a planner plays a game best with, by trying them.

Every setting plays the same episodes, on seeds from which no score is reported (pipelines/evaluation/session.py); the
evaluation with the best setting then plays others. A kill loses only what was being played.
The manifest holds the whole grid: a lead over the next setting that is within its standard error is no finding.
Run: `worldline evaluate EXPERIMENT --planner beam --set tune.contexts=1,2,4 --set tune.widths=2,4`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.environments.registry import options, protocol
from pipelines.environments.rollout import Episode, play
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import (
    GridConfig,
    PlayConfig,
    PlayerSettings,
    _entrant,
    require_players,
)
from pipelines.evaluation.session import EvaluationSession, episode_table, selection_seeds, summary
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, filled, parent
from pipelines.store.store import Store


@dataclass(frozen=True)
class TuneConfig(PlayConfig, StageConfig):
    """Play every setting of `grid` on seeds that are never reported.

    The other fields are those of the evaluation that the best setting is for: the plan copies them from there, and
    gives an axis that the grid leaves empty the evaluation's own value.
    """

    STAGE: ClassVar[str] = "tuned"
    VERB: ClassVar[str] = "tune"
    CODE: ClassVar[str] = "2"

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="agent")
    grid: GridConfig = field(default=GridConfig(), metadata={"inner": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        greedy = self.planner == "greedy"
        needed = ("contexts", "leaves") if greedy else ("contexts", "widths", "horizons", "leaves")
        if self.game and (empty := [name for name in needed if not getattr(self.grid, name)]):
            raise UsageError(f"A search for {self.planner} with no {empty[0]} is impossible: give at least one")

    @property
    def subject(self) -> str:
        return self.game

    @property
    def wanted(self) -> bool:
        return self.grid.wanted

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The evaluation's settings, and all axes filled. Raises UsageError for what the planner does not read."""
        play: Any = beside.template("evaluate")
        grid, greedy = self.grid, play.planner == "greedy"
        if play.settings or play.beam_episodes:
            raise UsageError(
                f"A search serves one planner and finds all its numbers: set evaluate.beam_episodes=0 (it is "
                f"{play.beam_episodes}) and evaluate.settings= (it is '{play.settings}')"
            )
        if greedy and (grid.widths or grid.horizons or grid.leaves):
            raise UsageError(
                "Greedy play reads no width, horizon or leaf value: search over tune.contexts alone, or set "
                "evaluate.planner=beam"
            )
        filled_grid = replace(
            grid,
            contexts=grid.contexts or (play.context,),
            widths=() if greedy else grid.widths or (play.beam_width,),
            horizons=() if greedy else grid.horizons or (play.beam_horizon,),
            leaves=grid.leaves or (play.search.leaf,),
        )
        shared = {entry.name: getattr(play, entry.name) for entry in fields(PlayConfig)}
        shared["max_steps"] = grid.max_steps or play.max_steps
        return super().fill({**shared, **values, "grid": filled_grid}, beside)

    def check_frozen(self, beside: Beside) -> None:
        """The agent can play with every setting that is tried."""
        require_players(candidates(self), self, beside)


def run(config: TuneConfig, store: Store) -> Report:
    """Search on one game, or find what was found."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TuneConfig, draft: Draft) -> None:
    import pandas as pd

    from pipelines.evaluation.players import AgentPlayer
    from pipelines.training.checkpoints import load_agent
    from pipelines.training.device import pick, settle

    given, device = options(config.game, config.rom_dir, config.rom_md5), pick(config.precision, leased=True)
    if config.agent is None:
        raise UsageError(f"A search on {config.game} needs an agent: name its artefact")
    agent = load_agent(draft.parents[config.agent], device)
    device = settle(agent, device, config.precision)
    players, seeds = candidates(config), selection_seeds(config.grid.seed, config.grid.episodes)
    for who in players:
        who.require_fit(config.game, agent, protocol(config.protocol))
    played: list[list[Episode]] = []
    for number, who in enumerate(players, start=1):
        folder = draft.scratch / _name(who)
        folder.mkdir(exist_ok=True)
        session = EvaluationSession.of(config.game, config.protocol, folder, config.envs, given)
        table = session.table(who, seeds)
        if table.seeds:
            player = AgentPlayer(who, [config.game] * table.rows, agent, partial(device.piece, _name(who)))
            play(table, player, f"Search {config.game}, {_name(who)} ({number} of {len(players)})")
        played.append(session.played(who, seeds))
    rows = grid(players, played)
    episode_table({_name(who): episodes for who, episodes in zip(players, played, strict=True)}).to_parquet(
        draft.path("episodes.parquet"), index=False
    )
    pd.DataFrame(rows).to_csv(draft.path("grid.csv"), index=False)
    best = max(rows, key=lambda row: row["mean"])  # of equals the first, which is the cheapest
    draft.metrics |= {"best": best, "grid": rows, "seeds": list(seeds), **device.metrics()}
    draft.roots.append(session.root())
    draft.counts |= {
        "settings": len(rows),
        "episodes": sum(map(len, played)),
        "steps": sum(episode.length for episodes in played for episode in episodes),
    }


def grid(players: Sequence[PlayerSettings], played: Sequence[Sequence[Episode]]) -> list[dict[str, Any]]:
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
        for place, (who, episodes) in enumerate(zip(players, played, strict=True))
    ]


def _name(who: PlayerSettings) -> str:
    """Of a setting, as a folder may be called."""
    numbers = {"context": who.context, "width": who.width, "horizon": who.horizon, "leaf": who.search.leaf}
    return "-".join(f"{name}{value}" for name, value in numbers.items() if value)


def candidates(config: TuneConfig) -> list[PlayerSettings]:
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
