"""What stands behind every score: its origin, training data, trainings and costs, and whether the agent sees.

Its origin is replay objects of a bucket, or ROMs. An agent sees where its errors on pixels that change
between frames are below those of baselines that are blind. A tokenizer that has collapsed draws the background and
nothing else, which the error over all pixels hides: most pixels never change. On changed pixels it does no better than
the mean frame, and a world model without sight does no better than copying the last frame.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.leaderboard.agent_scores import EPISODES, TRAINED, Entry, in_order, number
from pipelines.store.artefact import Artefact


@dataclass(frozen=True)
class Origin:
    """One score's roots: (artefact that names the root, what it says) of every one, itself included."""

    experiment: str
    score: str
    roots: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def artefacts(self) -> list[str]:
        """The artefacts that name a root, in the graph's order: the lines of origins.csv that are about this score."""
        return list(dict.fromkeys(artefact for artefact, _ in self.roots))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The remote replay objects: url, bytes, crc32c, version."""
        return [root for _, root in self.roots if root.get("url")]

    @property
    def roms(self) -> list[tuple[str, str]]:
        """(game, md5) of every ROM, each once."""
        found = [(str(root.get("game", "")), str(root["rom_md5"])) for _, root in self.roots if root.get("rom_md5")]
        return list(dict.fromkeys(found))


def origins(entries: Sequence[Entry]) -> list[Origin]:
    """One for every entry, in their order."""
    return [
        Origin(
            entry.experiment,
            str(entry.score.ref),
            tuple((str(found.ref), root) for found in (*entry.ancestors, entry.score) for root in found.manifest.roots),
        )
        for entry in entries
    ]


def write_csv(found: Sequence[Origin], path: Path) -> None:
    """A line for every root of every artefact, however many scores share it; columns are all names any root has."""
    lines = {
        (artefact, json.dumps(root, sort_keys=True, default=str)): root for o in found for artefact, root in o.roots
    }
    names = sorted({name for root in lines.values() for name in root})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["artefact", *names])
        for (artefact, _), root in lines.items():
            writer.writerow([artefact, *(root.get(name, "") for name in names)])


@dataclass(frozen=True)
class Data:
    """One set of trajectories, and the collection or bucket behind it. None = not recorded.

    `by_fifth` is the mean raw return of each fifth of the collection, `by_checkpoint` the mean clipped return of each
    replay checkpoint (first agent); both are empty when nobody measured them.
    """

    game: str
    address: str
    episodes: int | None
    transitions: int | None
    collected_frames: int | None
    collected_episodes: int | None
    origin: dict[str, Any] = field(default_factory=dict)
    by_fifth: tuple[float | None, ...] = ()
    by_checkpoint: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Cost:
    """One artefact: seconds of wall clock and processor, megabytes (1e6 bytes), None = not recorded."""

    address: str
    stage: str
    seconds: float | None
    cpu_seconds: float | None
    peak_mb: float | None
    in_mb: float | None
    out_mb: float
    commit: str


@dataclass(frozen=True)
class Training:
    """One training artefact: which experiments use it, its last losses, its pictures."""

    address: str
    stage: str
    experiments: tuple[str, ...]
    losses: dict[str, float]
    artefact: Artefact


def data(entries: Sequence[Entry]) -> list[Data]:
    """A row per set of trajectories behind any entry, of the entry's own game or of another."""
    behind = in_order([found for entry in entries for found in entry.ancestors])
    parents = {found.ref: [parent.ref for parent in found.manifest.parents] for found in behind}
    by_address = {str(found.ref): found for found in behind}
    rows = []
    for trajectories in behind:
        if trajectories.ref.stage not in EPISODES:
            continue
        replays = [by_address[ref] for ref in parents[trajectories.ref] if ref in by_address]
        collected = in_order(
            [by_address[ref] for replay in replays for ref in parents[replay.ref] if ref in by_address]
        )
        rows.append(_data(trajectories, replays, collected))
    return rows


def _data(trajectories: Artefact, replays: Sequence[Artefact], collected: Sequence[Artefact]) -> Data:
    counts = trajectories.manifest.counts
    source = collected[0].manifest if collected else None
    origin: dict[str, Any] = {}
    if source is not None and source.roots:
        origin = dict(source.roots[0])
    elif trajectories.manifest.roots:  # imported
        origin = {"source": trajectories.manifest.roots[0].get("path", "")}
    elif replays:
        origin = {"source": replays[0].manifest.config.get("url", "")}
    return Data(
        game=trajectories.ref.subject,
        address=str(trajectories.ref),
        episodes=counts.get("episodes"),
        transitions=counts.get("transitions"),
        collected_frames=source.counts.get("frames") if source else None,
        collected_episodes=source.counts.get("episodes") if source else None,
        origin=origin,
        by_fifth=_by_fifth(source.metrics.get("fifths")) if source else (),
        by_checkpoint=_by_checkpoint(replays[0].manifest.metrics.get("mean_clipped_return")) if replays else (),
    )


def _by_fifth(value: Any) -> tuple[float | None, ...]:
    """[{"mean_return": mean or None, "episodes": n}, ...] as the collection records it."""
    return tuple(number(part, "mean_return") for part in value) if isinstance(value, list) else ()


def _by_checkpoint(value: Any) -> tuple[float | None, ...]:
    """{"0": mean, "1": mean, ...} as the replay stage records it, in the order of the checkpoints."""
    if not isinstance(value, Mapping):
        return ()
    return tuple(number(value, name) for name in sorted(value, key=lambda name: int(name) if name.isdecimal() else -1))


def costs(entries: Sequence[Entry]) -> list[Cost]:
    """Every artefact behind the page once, in the graph's order."""
    return [
        _cost(found) for found in in_order([found for entry in entries for found in (*entry.ancestors, entry.score)])
    ]


def _cost(artefact: Artefact) -> Cost:
    manifest = artefact.manifest

    def megabytes(name: str) -> float | None:
        value = manifest.cost.get(name)
        return None if value is None else value / 1e6

    return Cost(
        address=str(artefact.ref),
        stage=artefact.ref.stage,
        seconds=manifest.cost.get("seconds"),
        cpu_seconds=manifest.cost.get("cpu_seconds"),
        peak_mb=megabytes("peak_bytes"),
        in_mb=megabytes("bytes_in"),
        out_mb=manifest.total_bytes / 1e6,
        commit=manifest.git_commit,
    )


def trainings(entries: Sequence[Entry], stages: Sequence[str]) -> list[Training]:
    """Every training artefact once, with the experiments that stand on it."""
    users: dict[str, list[str]] = {}
    for entry in entries:
        for found in entry.ancestors:
            users.setdefault(str(found.ref), []).append(entry.experiment)
    behind = in_order([found for entry in entries for found in entry.ancestors if found.ref.stage in stages])
    return [
        Training(
            address=str(found.ref),
            stage=found.ref.stage,
            experiments=tuple(dict.fromkeys(users[str(found.ref)])),
            losses=_losses(found.manifest.metrics.get("losses")),
            artefact=found,
        )
        for found in behind
    ]


def _losses(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): float(loss) for name, loss in value.items() if isinstance(loss, int | float)}


@dataclass(frozen=True)
class Sight:
    """Errors are on changed pixels, in the unit the training stage measured; None = not measured, or not recorded.

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
    held_out_episodes: float | None  # 0: measured on frames that were learned from
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
            "held_out_episodes",
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
