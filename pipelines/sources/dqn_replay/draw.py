"""Draws the episodes of a game that are kept: it filters them, then takes whole ones in random order up to a budget.

The draw depends on the seed, the game and the set of episodes. It does not depend on the order of rows, files or
replays, nor on the number of workers. No frame is touched.
Use: `drawn = draw(eligible(episodes, config), config)`, then `place_pieces(record.pieces, drawn)` for each agent.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from models.limits import MOST, Count, Natural, Seed, Share, Within
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.stage_config import filled, option, require

if TYPE_CHECKING:
    import pandas as pd  # the graph's plan imports this file for the config alone


@dataclass(frozen=True)
class DrawConfig:
    """Draw whole episodes from the replay of all chosen agents, until `transitions` steps are reached.

    A `fraction` above 0 draws that share of the eligible transitions instead. An episode is eligible when it ends in
    the checkpoints `first_checkpoint` to `last_checkpoint` (-1: no limit) and its clipped return lies between the
    quantiles `min_return` and `max_return` of those: 0.9 to 1 keeps the best tenth, whatever the game's scores.
    `replacement` draws as JOWA's own script does.
    """

    game: str = filled("game", "")
    transitions: Count = 10_000_000
    seed: Seed = 0
    fraction: Share = option(0.0)
    replacement: bool = option(False)
    first_checkpoint: Natural = option(0)
    last_checkpoint: Annotated[int, Within(least=-1, most=MOST)] = option(-1)
    min_return: float = option(0.0)
    max_return: float = option(1.0)

    def __post_init__(self) -> None:
        require(self, "downsample")
        if not 0.0 <= self.min_return <= self.max_return <= 1.0:
            raise UsageError(
                f"Returns from quantile {self.min_return} to {self.max_return} are no range: both lie between 0 and 1, "
                "the smaller first (0.9 to 1 keeps the best tenth)"
            )
        if -1 < self.last_checkpoint < self.first_checkpoint:
            raise UsageError(
                f"Checkpoints {self.first_checkpoint} to {self.last_checkpoint} are no range: give the smaller first, "
                "and -1 as the last for no limit"
            )


def eligible(episodes: "pd.DataFrame", config: DrawConfig) -> "pd.DataFrame":
    """The complete episodes that pass the filters of `config`, sorted by agent and episode.

    An episode counts to the checkpoint in which it ends. `min_return` and `max_return` are quantiles of the clipped
    return among the complete episodes of these checkpoints. Raises WorldlineError when nothing passes.
    """
    whole = episodes[episodes["complete"]]
    last = config.last_checkpoint if config.last_checkpoint >= 0 else np.inf
    ranged = whole[whole["checkpoint"].between(config.first_checkpoint, last)]
    if ranged.empty:
        raise WorldlineError(_nothing_passes(whole, config))
    low, high = np.quantile(ranged["return"], (config.min_return, config.max_return))
    kept = ranged[ranged["return"].between(low, high)]
    if kept.empty:
        raise WorldlineError(_nothing_passes(ranged, config))
    return kept.sort_values(["agent", "episode"], ignore_index=True)


def budget(candidates: "pd.DataFrame", config: DrawConfig) -> int:
    """The number of transitions to draw: a fraction of those that the candidates hold, or the configured number."""
    held = int(candidates["length"].sum())
    return math.ceil(config.fraction * held) if config.fraction else config.transitions


def draw(candidates: "pd.DataFrame", config: DrawConfig) -> "pd.DataFrame":
    """The drawn episodes by agent and episode, each with the `slot` of its first transition in the trajectory file.

    Without replacement, episodes are taken in random order until the budget is reached. The last one may exceed it; all
    are taken when there are too few; a larger budget adds episodes and exchanges none. With replacement, there are
    ceil(budget / mean length) independent draws, as in JOWA's script (arXiv 2410.00564), and an episode that is drawn
    twice has two rows.
    """
    wanted, lengths = budget(candidates, config), candidates["length"].to_numpy()
    rng = np.random.default_rng([config.seed, game_id(config.game)])
    if config.replacement:
        chosen = rng.integers(len(candidates), size=math.ceil(wanted / lengths.mean()))
    else:
        order = rng.permutation(len(candidates))
        before = np.cumsum(lengths[order]) - lengths[order]
        chosen = order[before < wanted]
    drawn = candidates.iloc[np.sort(chosen)].reset_index(drop=True)
    return drawn.assign(slot=np.cumsum(drawn["length"]) - drawn["length"])


def place_pieces(pieces: "pd.DataFrame", drawn: "pd.DataFrame") -> "pd.DataFrame":
    """The pieces of one agent's drawn episodes, sorted by the slot of their first row.

    Columns: episode, file, start, stop, slot. An episode that is drawn twice has its pieces twice.
    """
    found = drawn[["episode", "slot"]].merge(pieces, on="episode", how="inner")
    rows = found["stop"] - found["start"]
    found["slot"] += rows.groupby(found["slot"]).cumsum() - rows
    return found[["episode", "file", "start", "stop", "slot"]]


def _nothing_passes(there: "pd.DataFrame", config: DrawConfig) -> str:
    if there.empty:
        return f"No complete episode of {config.game} in its replays: fetch more checkpoints"
    checkpoints, returns = there["checkpoint"], there["return"]
    last = config.last_checkpoint if config.last_checkpoint >= 0 else "the last"
    return (
        f"No complete episode of {config.game} passes the filters (checkpoints {config.first_checkpoint} to {last}, "
        f"return quantiles {config.min_return:g} to {config.max_return:g}): there are checkpoints {checkpoints.min()} "
        f"to {checkpoints.max()} with returns {returns.min():g} to {returns.max():g}; widen a filter"
    )
