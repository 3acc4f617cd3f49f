"""Does the agent see? Errors on pixels that change between frames, next to the baselines a blind model reaches.

A tokenizer that has collapsed draws the background and nothing else, which the error over all pixels hides: most
pixels never change. On changed pixels it does no better than the mean frame, and a world model without sight does
no better than copying the last frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.leaderboard.agent_scores import TRAINED, Entry, number


@dataclass(frozen=True)
class Sight:
    """Errors are on changed pixels, in the unit the training stage measured; None = not measured.

    `good` is the verdict: True, False, or None when there was nothing to compare.
    """

    experiment: str
    game: str
    stage: str
    codes_used: float | None
    perplexity: float | None
    changed_share: float | None
    reconstruction_error: float | None
    mean_frame_error: float | None
    next_frame_error: float | None
    copy_last_error: float | None
    verdict: str
    good: bool | None


def sights(entries: Sequence[Entry]) -> list[Sight]:
    """A row per experiment, game and training stage that measured sight, one "not measured" row where none did."""
    rows: list[Sight] = []
    for entry in entries:
        measured = [
            (artefact.ref.stage, artefact.manifest.metrics["sight"][entry.game])
            for stage in TRAINED
            for artefact in entry.of(stage)
            if isinstance(artefact.manifest.metrics.get("sight"), Mapping)
            and isinstance(artefact.manifest.metrics["sight"].get(entry.game), Mapping)
        ]
        rows += [_sight(entry, stage, values) for stage, values in measured or [("", {})]]
    return list(dict.fromkeys(rows))  # an experiment may be scored twice on a game


def _sight(entry: Entry, stage: str, values: Mapping[str, Any]) -> Sight:
    read = {
        name: number(values, name)
        for name in (
            "codes_used",
            "perplexity",
            "changed_share",
            "reconstruction_error",
            "mean_frame_error",
            "next_frame_error",
            "copy_last_error",
        )
    }
    pairs = (
        ("the mean frame", read["reconstruction_error"], read["mean_frame_error"]),
        ("copying the last frame", read["next_frame_error"], read["copy_last_error"]),
    )
    verdict, good = judge(pairs)
    return Sight(entry.experiment, entry.game, stage, **read, verdict=verdict, good=good)


def judge(pairs: Sequence[tuple[str, float | None, float | None]]) -> tuple[str, bool | None]:
    """A sentence and True or False from (baseline's name, our error, baseline's error); only strictly lower wins."""
    won: list[str] = []
    lost: list[str] = []
    for name, ours, baseline in pairs:
        if ours is not None and baseline is not None:
            (won if ours < baseline else lost).append(name)
    if lost:
        return f"blind: no better than {' or '.join(lost)}", False
    if won:
        return f"sees: beats {' and '.join(won)}", True
    return "not measured", None
