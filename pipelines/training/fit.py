"""An agent fits data by a schedule, and leaves its checkpoint, learning curves, sight per game, sheets and films.

`fit` is what every training stage does once it knows the agent and the segments.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.api import Agent
from models.registry import family_of
from models.spaces import Spaces
from pipelines.batches.loader import SegmentSource, Source, rank_rows
from pipelines.batches.segments import Segmentation
from pipelines.environments.registry import Rules
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.plots.training import draw_curves
from pipelines.progress import say, track
from pipelines.store.artefact import Draft
from pipelines.training import inputs, metrics
from pipelines.training.checkpoints import CheckpointManager, name_parts
from pipelines.training.device import Device, compile_for, settle
from pipelines.training.diagnostics import (
    code_usage,
    draw_sheet,
    last_pairs,
    looking,
    mean_returns,
    measure,
    summary,
)
from pipelines.training.distributed.ranks import Ranks
from pipelines.training.drawing import Drawing
from pipelines.training.films import draw_films
from pipelines.training.inputs import ImaginedSegments
from pipelines.training.loop import train
from pipelines.training.schedule import ImagineConfig, LoopConfig, Phase, Schedule, phases_of, total_steps
from pipelines.training.task import Task
from pipelines.training.training_config import check_alone, check_phases

if TYPE_CHECKING:
    from pipelines.environments.registry import Environment
    from pipelines.training.collecting import Collector

CONTEXT = 4  # real steps before the predicted frame
SHEET_STEPS = 8


@dataclass(frozen=True)
class Lesson:
    """What is learned, from what, and on what the result is measured. games: their names, in the order of sources.

    unseen: by game, how many of its last episodes no training saw.
    plays: whether kept checkpoints may be played on the way; by `player` and under `rules`, where they are given.
    imagine: how the model continues segments itself. spaces: what it learns in, where no source says that. drawing:
    how batches are drawn from episodes that may grow. collector: who makes them grow, of the agent and its device.
    emulators: the game itself, for who practises in it (`models.api.Learning`).
    """

    title: str
    schedule: Schedule
    loop: LoopConfig
    games: tuple[str, ...]
    sources: Sequence[Source]
    measured: Sequence[Source]
    unseen: Mapping[str, int]
    sight_frames: int
    seed: int
    plays: bool = True
    imagine: ImagineConfig | None = None
    player: PlayerSettings | None = None
    rules: Rules | None = None
    spaces: Spaces | None = None
    drawing: Drawing | None = None
    collector: "Callable[[Agent, Device], Collector] | None" = None
    emulators: "Callable[[int, int], Environment] | None" = None


def say_missing(agent: Agent, objectives: tuple[str, ...], title: str, start: str) -> dict[str, Any]:
    """Say what a training does without, and what becomes of networks that nothing trains; as metrics of a manifest.

    start: the artefact whose agent it goes on with; empty: fresh networks.
    """
    found: dict[str, Any] = {}
    if missing := agent.config.left_out:
        say(f"{title} without {missing}")
        found["left_out"] = missing
    learned = family_of(agent.config).trains(objectives)
    if untrained := [name for name in agent.networks if name not in learned]:
        told = f"{title}: nothing trains {', '.join(untrained)}"
        if start:
            say(f"{told}, kept as {start} has it")
        else:
            say(f"{told}, and learn.agent names nobody who has it: it stays as it was drawn, and says nothing true")
            found["untrained"] = untrained
    return found


def fit(agent: Agent, lesson: Lesson, draft: Draft, device: Device, ranks: Ranks) -> None:
    """Train the agent's networks in place, or go on from the saved state; the first rank fills the draft.

    Raises UsageError for phases that the agent's family does not know, and for frames of another size than it sees.
    """
    family, loop = family_of(agent.config), lesson.loop
    fresh = agent.spaces is None
    shown = _frame(agent, lesson)
    phases = phases_of(lesson.schedule)
    if (seen := agent.config.takes.frame) not in (None, shown):
        raise UsageError(
            f"Frames of {shown} are learned from and the networks see {seen} (height, width, colours): "
            "take data of that size, or change what they see (resolution, frame_channels or frame of their config)"
        )
    check_phases(phases, family, agent.config)
    check_alone(agent.config, ranks.world)
    device = settle(agent, device, loop.precision)
    legal_GA = inputs.legal_actions(lesson.games).to(device.name) if lesson.games else None
    imagined = None
    if lesson.imagine and legal_GA is not None:
        imagined = ImaginedSegments(lesson.imagine, agent, legal_GA, device, lesson.seed)
    objectives = tuple(dict.fromkeys(name for phase in phases for name in phase.objectives))
    collector = lesson.collector(agent, device) if lesson.collector else None
    task = Task(
        agent, lesson.sources, objectives, loop, lesson.seed, device, ranks, agent.limits.steps, legal_GA, imagined,
        lesson.drawing, collector, fresh, lesson.emulators, plays_until(lesson.schedule),
    )  # fmt: skip
    for name in family.sequence_networks(objectives):
        compile_for(device, agent.networks[name], loop.compile)
    plays = partial(mean_returns, agent, lesson.games, loop, device, ranks, lesson.player, lesson.rules)
    save = partial(_save_and_show, task, lesson, device)
    manager = CheckpointManager(draft.scratch, loop, save, plays if lesson.plays else None, ranks)
    log = draft.path(metrics.ROWS)
    end = train(task, lesson.schedule, loop, log, draft.scratch, lesson.title, ranks, manager, device.threads)
    if ranks.first:
        draft.metrics |= _shared(end.ranks or (ranks.world,), phases)
        _record(draft, task, lesson, device)
        if imagined is not None:
            draft.counts["imagined"] = len(imagined)


def _frame(agent: Agent, lesson: Lesson) -> tuple[int, ...]:
    """(H, W, C) of what is learned; the agent's spaces are those of what it learns, but for videos, which have none."""
    if not lesson.games and lesson.drawing is not None:
        height, width, *colours = lesson.drawing.reader.frame_shape
        return height, width, 3 if colours else 1
    agent.spaces = lesson.spaces or inputs.spaces(lesson.sources, lesson.games)
    return agent.spaces.frame


def plays_until(schedule: Schedule) -> int | None:
    """Optimiser steps after which nothing is played any more, whose round is over; None: play goes on to the end."""
    start, last = 0, 0
    for part in schedule:
        if isinstance(part, Phase):
            start += part.steps
            continue
        playing = (part.until or part.count) if part.collect else 0
        for number in range(part.count):
            start += sum(use.steps_in(number) for use in part.uses)
            if number < playing:
                last = start
    return None if last == start else last


def _save_and_show(task: Task, lesson: Lesson, device: Device, folder: Path) -> dict[str, float]:
    """A checkpoint on the way; of an agent that learns in rounds with a sheet and films of what it sees and imagines.

    They are of what it played, or of what it learns from. Returns how it uses its codes.
    """
    task.save(folder)
    source = _shown(task, lesson)
    if source is None:
        return {}
    agent, held_out = task.agent, lesson.unseen.get(source.name, 0)
    path, steps, among = folder / f"sheet_{source.name}.png", min(SHEET_STEPS, agent.limits.steps), source.episodes
    with looking(agent):
        if steps > 1:
            with suppress(WorldlineError):  # no episode has so many steps yet
                draw_sheet(path, agent, agent.world(), source, held_out, steps, device, among=among)
        draw_films(folder, agent, source, held_out or among, device)
        return code_usage(agent, source, device)


def _shown(task: Task, lesson: Lesson) -> Source | None:
    """What pictures on the way are of; of stages that learn in phases there are none."""
    if task.collector is not None:
        played = task.collector.experience
        return SegmentSource(played, Segmentation(played.episode_starts, 1, 1, "right"))
    return lesson.measured[0] if lesson.drawing is not None and lesson.measured else None


def _shared(ranks: Sequence[int], phases: Sequence[Phase]) -> dict[str, Any]:
    """How the work was shared, for the manifest: the ranks decide about the last bits as threads do.

    ranks: how many there were, in turn. `rank_rows`: the rows of each phase's batches that the last ones took, in
    order of rank.
    """
    found: dict[str, Any] = {"ranks": ranks[-1]}
    if len(ranks) > 1:
        found["earlier_ranks"] = list(ranks[:-1])
    if ranks[-1] > 1:
        found["rank_rows"] = {
            f"{phase.name}/{use.name}": [
                len(range(use.batch)[rank_rows(use.batch, rank, ranks[-1])]) for rank in range(ranks[-1])
            ]
            for phase in phases
            for use in phase.uses
        }
    return found


def _record(draft: Draft, task: Task, lesson: Lesson, device: Device) -> None:
    """Fill the draft, which has metrics.jsonl already. The agent's networks are in eval mode from then on."""
    task.save(draft.folder)
    name_parts(draft, task.agent)
    rows = metrics.read(draft.path(metrics.ROWS))
    draw_curves(rows, draft.path("curves.png"))
    draft.counts["steps"] = total_steps(lesson.schedule)
    draft.metrics |= {"losses": metrics.final(rows), **device.metrics()}
    for network in task.agent.networks.values():
        network.eval()
    if lesson.measured:
        examine(draft, task.agent, lesson.measured, lesson.unseen, lesson.sight_frames, device)


def examine(
    draft: Draft,
    agent: Agent,
    sources: Sequence[Source],
    unseen: Mapping[str, int],
    pairs: int,
    device: Device,
) -> None:
    """Add `sight` metrics, the `sees` check, and for each game a sheet and films to the draft.

    unseen: how many of a game's last episodes no training saw. Where it is 0, the figures are of frames that were
    learned from, and are called so. Short episodes have shorter windows; where no frame follows another one, or the
    world model has room for one alone, nothing is measured, and the check says so: a training is never lost to that.
    """
    figures, world, blind = {}, agent.world(), list[str]()
    with track("Measure sight", total=len(sources), unit="games") as advance:
        for source in sources:
            game = source.name
            held_out, sheet = unseen[game], draft.path(f"sheet_{game}.png")
            seen = min(agent.limits.steps, source.longest(held_out))
            if seen > 1:
                drawn = last_pairs(source, held_out, pairs, min(CONTEXT, seen - 1), seed=0)
                figures[game] = measure(agent, world, source, drawn, held_out, device)
                draw_sheet(sheet, agent, world, source, held_out, min(SHEET_STEPS, seen), device)
                draw_films(draft.folder, agent, source, held_out or source.episodes, device)
            else:
                why = "last episodes are of" if agent.limits.steps > 1 else "world model has room for"
                blind.append(f"{game}: not measured, its {why} one step")
            advance()
    passed, detail = summary(figures)
    draft.check("sees", passed and not blind, "; ".join([*blind, *([detail] if detail else [])]))
    draft.metrics["sight"] = {game: quality.to_metrics() for game, quality in figures.items()}
    metrics.show_pictures(draft.folder, draft.counts.get("steps", 0), metrics.pictures_in(draft.folder))
