"""Stage `recordings`: a mode of play is played without a screen and kept: film, pictures, actions, rewards, facts.

The same config makes the same pictures: all draws come from the seed, what a person would do from a file of actions.
`worldline play` keeps what was played on a screen under the same stage; `take` says how.
Run: `worldline play EXPERIMENT --headless --mode dream --steps 200 --out film.mp4`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from models.limits import Count, Natural, Seed, Size
from pipelines.environments.actions import own_actions
from pipelines.environments.registry import options, protocol, roots
from pipelines.errors import UsageError, may_pass, not_now, unknown
from pipelines.evaluation.player_settings import PlayConfig, PlayerSettings, _entrant
from pipelines.play.mode import ASKING, LONGEST, MODES, Mode, open_mode
from pipelines.play.source import PlaySource, Start
from pipelines.progress import track
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, filled, manner, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.play.episodes import EpisodeSet
    from pipelines.play.taken import Taken

FILM, ACTIONS = "film.mp4", "actions.txt"
KEPT = ("recorded", "evaluated")  # the kinds of episodes that artefacts hold


@dataclass(frozen=True)
class RecordConfig(PlayConfig, StageConfig):
    """Play `steps` of a mode and keep them. What a mode does not read decides nothing but the key.

    `skip` steps are played before the first that is kept.
    `episode` of the set `of` is where a dream begins, at its `step`; -1 begins in the emulator after `step` no-ops.
    `actions_sha256` names the actions that a person plays (`actions_file` holds them); without one nothing is pressed.
    """

    STAGE: ClassVar[str] = "recordings"
    VERB: ClassVar[str] = "record"
    CODE: ClassVar[str] = "1"

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="agent")
    trajectories: Ref | None = parent(makes="trajectories", soft=True, when="begins_recorded")
    scores: Ref | None = parent("scores", when="begins_evaluated")
    mode: str = "dream"
    steps: Count = 200
    skip: Natural = 0
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
        if self.of not in KEPT:
            raise unknown("kind of episodes", self.of, KEPT, "'worldline play --help' explains them")
        if self.episode < -1:
            raise UsageError(f"record.episode {self.episode} is none: give 0 or more, or -1 for the emulator")
        if self.steps > LONGEST:
            raise UsageError(f"A recording of {self.steps:,} steps is too long: at most {LONGEST:,}, ten minutes")

    @property
    def subject(self) -> str:
        return self.game

    @property
    def begins_recorded(self) -> bool:
        """Whether a recorded episode is read."""
        return self.of == "recorded" and (self.episode >= 0 or self.mode == "episodes")

    @property
    def begins_evaluated(self) -> bool:
        """Whether an evaluated episode is played again."""
        return self.of == "evaluated" and (self.episode >= 0 or self.mode == "episodes")

    @property
    def settings(self) -> PlayerSettings:
        """How the agent chooses."""
        numbers = (self.context, self.epsilon, self.beam_width, self.beam_horizon)
        return _entrant(self.planner, 1, self.max_steps, *numbers, self.search)


def as_read(config: RecordConfig) -> RecordConfig:
    """The same with those parents alone that it reads: what a recording of it is made from."""
    return replace(
        config,
        trajectories=config.trajectories if config.begins_recorded else None,
        scores=config.scores if config.begins_evaluated else None,
    )


def opened(config: RecordConfig, store: Store) -> dict[Ref, Artefact]:
    """The parents of a config, which may be more than it reads: for `source_of`, where there is a screen."""
    return {ref: store.open(ref) for ref in (config.agent, config.trajectories, config.scores) if ref is not None}


def run(config: RecordConfig, store: Store) -> Report:
    """Play and keep, or find what was kept."""

    def build(draft: Draft) -> None:
        pressed = _bytes_of(Path(config.actions_file)) if config.actions_sha256 else b""
        keep_in(draft, config, take(config, draft.parents, pressed), pressed)

    return store.produce(config.spec(), build)


def keep(config: RecordConfig, taken: "Taken", pressed: Sequence[int], store: Store) -> Report:
    """Keep what was played on a screen. `pressed` are the places of all actions since `config.seed` began, one for
    each call of the mode's `step`; the newest of them are the recording's own.

    The artefact is the one that `run` would make of its config.
    """
    skip = len(pressed) - len(taken)
    if skip < 0:
        raise ValueError(f"{len(pressed)} actions for a recording of {len(taken)} steps: give all since the beginning")
    data = words_of(pressed, config.game) if config.mode in ASKING else b""
    config = replace(as_read(config), steps=len(taken), skip=skip)
    if config.mode in ASKING:
        config = replace(config, actions_sha256=hashlib.sha256(data).hexdigest())
    return store.produce(config.spec(), lambda draft: keep_in(draft, config, taken, data))


def keep_in(draft: Draft, config: RecordConfig, taken: "Taken", pressed: bytes) -> None:
    """Write a recording's files, and what its manifest says. `pressed`: the file of actions, empty for none."""
    if config.actions_sha256:
        draft.path(ACTIONS).write_bytes(pressed)
    taken.write_arrays(draft.folder)
    shown = taken.write_film(draft.path(FILM)).name
    if config.mode in ("agent", "game") and (frames := taken.write_trajectories(draft.folder)):
        draft.metrics["frames_sha256"] = frames
    draft.counts |= taken.counts
    draft.metrics |= {"mode": config.mode, "film": shown, **taken.metrics}
    draft.roots.append(
        roots(config.game, protocol(config.protocol), **options(config.game, config.rom_dir, config.rom_md5))
    )


def take(config: RecordConfig, opened: Mapping[Ref, Artefact], pressed: bytes = b"") -> "Taken":
    """Play as a config says, without a screen."""
    if hashlib.sha256(pressed).hexdigest() != config.actions_sha256 and config.actions_sha256:
        raise UsageError(f"{config.actions_file} is not the file that was named: run the command again")
    places = places_in(config.actions_file, pressed, config.game) if config.actions_sha256 else ()
    source = source_of(config, opened)
    mode = open_mode(config.mode, source)
    try:
        return _played(mode, config, places)
    finally:
        mode.close()
        for episodes in source.sets.values():
            episodes.close()


def _played(mode: Mode, config: RecordConfig, pressed: Sequence[int]) -> "Taken":
    from pipelines.play.taken import Taken  # what reads and writes files is imported where something is kept

    presses = iter(pressed)
    shown = mode.reset(config.seed)
    for _ in range(config.skip):
        shown = mode.step(next(presses, None))
    taken = Taken(config.game, mode.actions, shown)
    with track(f"Play {config.game}, {config.mode}", config.steps, "steps") as advance:
        for _ in range(config.steps):
            taken.add(mode.step(next(presses, None)))
            advance(1)
    return taken


def source_of(config: RecordConfig, opened: Mapping[Ref, Artefact]) -> PlaySource:
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


def _sets(config: RecordConfig, opened: Mapping[Ref, Artefact]) -> "dict[str, EpisodeSet]":
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.play.episodes import EvaluatedEpisodes, RecordedEpisodes

    sets: dict[str, EpisodeSet] = {}
    readable = [opened[ref] for ref in (config.trajectories, config.agent) if ref is not None and ref in opened]
    for each in readable:
        if "recorded" not in sets and FILE_NAME in each.names():
            sets["recorded"] = RecordedEpisodes(Trajectories(each.source(FILE_NAME)))
    if config.scores is not None:
        scores = opened[config.scores]
        under = scores.manifest.config
        rom = options(config.game, config.rom_dir, under.get("rom_md5", ""))
        sets["evaluated"] = EvaluatedEpisodes.of(
            config.game, protocol(under["protocol"]), rom, scores.path("episodes.jsonl"), scores.path("actions.npz")
        )
    return sets


def with_actions(config: RecordConfig, file: Path) -> RecordConfig:
    """The config that plays the actions of a file, which are checked. Raises UsageError as `places_in`."""
    data = _bytes_of(file)
    places_in(str(file), data, config.game)
    return replace(config, actions_file=str(file.absolute()), actions_sha256=hashlib.sha256(data).hexdigest())


def words_of(places: Sequence[int], game: str) -> bytes:
    """Places as a file of actions, which `places_in` reads."""
    names = own_actions(game)
    return (" ".join(names[place] for place in places) + "\n").encode()


def places_in(where: str, data: bytes, game: str) -> tuple[int, ...]:
    """The actions of a file: names such as NOOP or UPFIRE, or the game's own numbers, between spaces or lines.

    Raises UsageError for one that the game does not have, and for a file of none.
    """
    names, places = own_actions(game), []
    plain = [name.upper() for name in names]
    try:
        words = data.decode().replace(",", " ").split()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no text: give names of actions, such as NOOP UP FIRE") from error
    for number, word in enumerate(words):
        own = word.upper()
        number_given = word.isascii() and word.isdecimal() and len(word) < 3
        place = plain.index(own) if own in plain else int(word) if number_given else -1
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
