"""Stage `recordings`: a mode of play is played without a screen and kept: film, pictures, actions, rewards, facts.

The same config makes the same pictures: all draws come from the seed, what a person would do from a file of actions.
`worldline play` keeps what was played on a screen under the same stage; `take` says how.
Run: `worldline play EXPERIMENT --headless --mode dream --steps 200 --out film.mp4`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from models.limits import Count, Natural, Seed, Size
from pipelines.environments.registry import options, own_actions, protocol, roots
from pipelines.errors import UsageError, may_pass, not_now, unknown
from pipelines.evaluation.player_settings import PlayConfig, PlayerSettings, _entrant
from pipelines.play.mode import LONGEST, MODES, Mode, open_mode
from pipelines.play.source import PlaySource, Start
from pipelines.progress import track
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, filled, manner, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.play.episodes import EpisodeSet
    from pipelines.play.taken import Taken

FILM = "film.mp4"


@dataclass(frozen=True)
class RecordConfig(PlayConfig, StageConfig):
    """Play `steps` of a mode and keep them. What a mode does not read decides nothing but the key.

    `episode` of the set `of` is where a dream begins, at its `step`; -1 begins in the emulator after `step` no-ops.
    `actions_sha256` names the actions that a person plays (`actions_file` holds them); without one nothing is pressed.
    """

    STAGE: ClassVar[str] = "recordings"
    VERB: ClassVar[str] = "record"
    CODE: ClassVar[str] = "1"

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="agent")
    trajectories: Ref | None = parent(makes="trajectories", soft=True, when="begins_recorded")
    mode: str = "dream"
    steps: Count = 200
    context: Size = 4  # newest steps the policy sees, and real ones that a dream begins with
    beam_width: Size = 2
    beam_horizon: Size = 2
    seed: Seed = filled("seed", 0)
    episode: int = -1
    step: Natural = 0
    of: str = "recorded"
    sample: Literal["family", "yes", "no"] = "family"
    reconstruction: bool = False
    actions_sha256: str = ""
    actions_file: str = manner("")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES, "'worldline play --help' explains them")
        if self.steps > LONGEST:
            raise UsageError(f"A recording of {self.steps:,} steps is too long: at most {LONGEST:,}, ten minutes")

    @property
    def subject(self) -> str:
        return self.game

    @property
    def begins_recorded(self) -> bool:
        """Whether a recorded episode is read."""
        return self.episode >= 0 and self.of == "recorded"

    @property
    def settings(self) -> PlayerSettings:
        """How the agent chooses."""
        numbers = (self.context, self.epsilon, self.beam_width, self.beam_horizon)
        return _entrant(self.planner, 1, self.max_steps, *numbers, self.search)


def run(config: RecordConfig, store: Store) -> Report:
    """Play and keep, or find what was kept."""

    def build(draft: Draft) -> None:
        keep_in(draft, config, take(config, draft.parents))

    return store.produce(config.spec(), build)


def keep(config: RecordConfig, taken: "Taken", store: Store) -> Report:
    """Keep what was played on a screen as `config` says it was played."""
    return store.produce(config.spec(), lambda draft: keep_in(draft, config, taken))


def keep_in(draft: Draft, config: RecordConfig, taken: "Taken") -> None:
    """Write a recording's files, and what its manifest says."""
    taken.write_arrays(draft.folder)
    shown = taken.write_film(draft.path(FILM)).name
    if config.mode in ("agent", "game") and (frames := taken.write_trajectories(draft.folder)):
        draft.metrics["frames_sha256"] = frames
    draft.counts |= taken.counts
    draft.metrics |= {"mode": config.mode, "film": shown, **taken.metrics}
    draft.roots.append(
        roots(config.game, protocol(config.protocol), **options(config.game, config.rom_dir, config.rom_md5))
    )


def take(config: RecordConfig, opened: dict[Ref, Artefact]) -> "Taken":
    """Play as a config says, without a screen."""
    source = source_of(config, opened)
    pressed = read_actions(config)
    mode = open_mode(config.mode, source)
    try:
        return _played(mode, config, pressed)
    finally:
        mode.close()
        for episodes in source.sets.values():
            episodes.close()


def _played(mode: Mode, config: RecordConfig, pressed: Sequence[int]) -> "Taken":
    from pipelines.play.taken import Taken  # what reads and writes files is imported where something is kept

    taken = Taken(config.game, mode.actions, mode.reset(config.seed))
    with track(f"Play {config.game}, {config.mode}", config.steps, "steps") as advance:
        for number in range(config.steps):
            taken.add(mode.step(pressed[number] if number < len(pressed) else None))
            advance(1)
    return taken


def source_of(config: RecordConfig, opened: dict[Ref, Artefact]) -> PlaySource:
    """What a config plays with: the agent, loaded, and the episodes of its parents.

    Raises UsageError where the agent cannot play so.
    """
    from pipelines.training.checkpoints import load_agent  # torch is imported where something plays
    from pipelines.training.device import pick, settle

    given, rules = options(config.game, config.rom_dir, config.rom_md5), protocol(config.protocol)
    if config.agent is None:
        raise UsageError(f"Play of {config.game} needs an agent: name its artefact")
    device = pick(config.precision, leased=True)
    agent = load_agent(opened[config.agent], device)
    device = settle(agent, device, config.precision)
    config.settings.require_fit(config.game, agent, rules)
    return PlaySource(
        game=config.game,
        rules=rules,
        agent=agent,
        settings=config.settings,
        seed=config.seed,
        options=given,
        start=Start(None if config.episode < 0 else config.episode, config.step, config.of),
        sets=_sets(config, opened),
        sample={"family": None, "yes": True, "no": False}[config.sample],
        reconstruction=config.reconstruction,
        piece=device.piece,
    )


def _sets(config: RecordConfig, opened: dict[Ref, Artefact]) -> "dict[str, EpisodeSet]":
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.play.episodes import RecordedEpisodes

    readable = [opened[ref] for ref in (config.trajectories, config.agent) if ref is not None and ref in opened]
    found = next((each for each in readable if FILE_NAME in each.names()), None)
    return {} if found is None else {"recorded": RecordedEpisodes(Trajectories(found.path(FILE_NAME)))}


def read_actions(config: RecordConfig) -> tuple[int, ...]:
    """The actions of a config's file, as places. Raises UsageError for another file, or an action of no such game."""
    if not config.actions_sha256:
        return ()
    data = _bytes_of(Path(config.actions_file))
    if hashlib.sha256(data).hexdigest() != config.actions_sha256:
        raise UsageError(f"{config.actions_file} changed while it was read: run the command again")
    return places_in(config.actions_file, data, config.game)


def with_actions(config: RecordConfig, file: Path) -> RecordConfig:
    """The config that plays the actions of a file, which are checked. Raises UsageError as `places_in`."""
    data = _bytes_of(file)
    places_in(str(file), data, config.game)
    return replace(config, actions_file=str(file.absolute()), actions_sha256=hashlib.sha256(data).hexdigest())


def places_in(where: str, data: bytes, game: str) -> tuple[int, ...]:
    """The actions of a file: names such as NOOP or UPFIRE, or the game's own numbers, between spaces or lines.

    Raises UsageError for one that the game does not have, and for a file of none.
    """
    names, places = own_actions(game), []
    try:
        words = data.decode().replace(",", " ").split()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no text: give names of actions, such as NOOP UP FIRE") from error
    for number, word in enumerate(words):
        own = word.upper()
        place = names.index(own) if own in names else int(word) if word.isascii() and word.isdecimal() else -1
        if not 0 <= place < len(names):
            raise UsageError(
                f"{where} has '{word[:20]}' as action {number}, which is none of {game}'s: choose among "
                f"{', '.join(names)}, or 0 to {len(names) - 1}"
            )
        places.append(place)
    if not places:
        raise UsageError(f"{where} names no action: give some, such as NOOP UP FIRE")
    return tuple(places)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if may_pass(error):
            raise not_now(file, error) from error
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a file of actions") from error
