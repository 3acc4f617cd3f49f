"""Everything that can be played, by name, and what every kind of environment answers, whatever the game.

Another environment is one line in KINDS and a module that it names. A module of a kind defines `make`, `roots` and
`options` as the functions of those names here call them. It is imported when a game of its kind is played, so that
naming games loads no emulator. `make` gives several copies of one game that are played at once; `rollout` plays whole
episodes in them and knows nothing else of a game.
Letters: N environments, H and W pixels; an RGB frame has a last axis of 3.
"""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.spaces import Box, Discrete, Spaces
from pipelines.environments.atari import games as atari
from pipelines.environments.crafter import game as crafter
from pipelines.environments.metaworld import game as metaworld
from pipelines.errors import UsageError, unknown


class Rules(Protocol):
    """The rules of play, known by their name: a score means nothing without them."""

    @property
    def name(self) -> str:
        """By which keys and scores name them."""

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""

    @property
    def max_steps(self) -> int:
        """Agent steps after which an episode is truncated."""


@dataclass(frozen=True)
class NoisyRules:
    """Rules under which every frame that is seen carries normal noise, each pixel and step its own.

    std: its standard deviation as a share of the range of a pixel, in (0, 1].
    """

    rules: Rules
    std: float

    @property
    def name(self) -> str:
        """As `protocol` reads it."""
        return f"{self.rules.name}+noise{self.std:g}"

    @property
    def frame(self) -> tuple[int, int, int]:
        """That of the rules below."""
        return self.rules.frame

    @property
    def max_steps(self) -> int:
        """That of the rules below."""
        return self.rules.max_steps


@dataclass(frozen=True)
class Step:
    """What one step of all environments gave. Where an episode ended, `frames` holds the next episode's first frame."""

    frames: NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3)
    rewards: NDArray[np.float32]  # (N,) the game's own points
    terminated: NDArray[np.bool_]  # (N,) the game was over
    truncated: NDArray[np.bool_]  # (N,) the rules' limit cut it
    goes_on: NDArray[np.bool_] | None = None  # (N,) a lost life ended the episode, not its game; None: nowhere
    achievements: NDArray[np.int64] | None = None
    """(N, K) how often each of `registry.achievements` was reached in the episode, the ended one where one ended"""

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) True where an episode ended, for either reason; game over counts when both fell on one step."""
        return self.terminated | self.truncated


class Environment(Protocol):
    """N copies of `game` under `rules`, each with a seed of its own. An environment of a seed always plays alike."""

    game: str
    seeds: tuple[int, ...]
    spaces: Spaces

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, H, W) or (N, H, W, 3) of fresh episodes; every environment is seeded anew."""

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged.

        What follows is what a new environment of that seed would play.
        """

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one action in each environment: (N,) integers, or (N, size) floats where `spaces.actions` is a Box.

        Raises ValueError for an action that the game does not have.
        """

    def roots(self) -> dict[str, Any]:
        """What is played, for a manifest: the game, the emulator and the rules in numbers."""

    def close(self) -> None:
        """Let go of files. Nothing can be played afterwards."""


class Watched(Environment, Protocol):
    """An environment that shows its screens as well, as people see them."""

    def screens(self) -> NDArray[np.uint8]:
        """(N, height, width, 3) RGB: the screens as they are now, of the game's own size."""


def emulator_seeds(seed: int, count: int) -> tuple[int, ...]:
    """`count` seeds of environments drawn from one; more of them begin with the same ones."""
    return tuple(int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(count))


@dataclass(frozen=True)
class Kind:
    """One kind of environment: its games and their groups, their actions, and the rules under which it plays them.

    `achievements` are what an episode of its games may reach besides points, by name. `replayed`: whether DQN-Replay
    has its games, so that there is replay of them to fetch, and a layout to collect it in.
    """

    module: str
    games: tuple[str, ...]
    actions: Callable[[str], Discrete | Box]
    protocols: Mapping[str, Rules]
    aliases: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    achievements: tuple[str, ...] = ()
    replayed: bool = False


KINDS = (
    Kind(
        "pipelines.environments.atari.environment",
        atari.GAMES,
        atari.actions,
        atari.PROTOCOLS,
        atari.ALIASES,
        atari.GROUPS,
        replayed=True,
    ),
    Kind(
        "pipelines.environments.crafter.environment",
        (crafter.GAME,),
        crafter.actions,
        crafter.PROTOCOLS,
        groups=crafter.GROUPS,
        achievements=crafter.ACHIEVEMENTS,
    ),
    Kind(
        "pipelines.environments.metaworld.environment",
        metaworld.TASKS,
        metaworld.actions,
        metaworld.PROTOCOLS,
        groups=metaworld.GROUPS,
        achievements=metaworld.ACHIEVEMENTS,
    ),
)

GAMES = tuple(game for kind in KINDS for game in kind.games)  # a game's id is its index here: new kinds go last

_PROTOCOLS = {name: rules for kind in KINDS for name, rules in kind.protocols.items()}

GROUPS = {name: games for kind in KINDS for name, games in kind.groups.items()}  # games that go by one name

_ALIASES = {alias: name for kind in KINDS for alias, name in kind.aliases.items()}


def check_game(name: str) -> str:
    """The name itself; raises UsageError with the nearest name when nothing of that name can be played."""
    if name not in GAMES:
        raise unknown("game", name, GAMES, f"'worldline games' lists all {len(GAMES)}")
    return name


_VERSION = re.compile(r"^(ale/|meta-?world[/_ -])|(noframeskip|deterministic)?-v\d+$")
_SPACES = re.compile(r"[\s_-]")
_PLAIN = {_SPACES.sub("", name.lower()): name for name in GAMES}


def game_named(text: str) -> str:
    """The game that a person means: FREEWAY, ms_pacman, 'Ms Pacman', ALE/Pong-v5 and PongNoFrameskip-v4 are understood.

    So are metaworld_drawer_open and drawer-open-v3. Raises UsageError with the nearest name for anything else.
    """
    plain = _SPACES.sub("", _VERSION.sub("", text.strip().lower()))
    return _PLAIN.get(plain) or check_game(text.strip())


def require_game(where: object, named: str, wanted: str) -> None:
    """Refuse what was brought for a game and holds another, however that is spelled. Raises UsageError."""
    found = game_named(named)
    if found != wanted:
        raise UsageError(f"{where} holds {found}, not {wanted}: say --game {found}")


def game_id(name: str) -> int:
    """Index in GAMES; raises UsageError for an unknown name."""
    return GAMES.index(check_game(name))


def task_count(name: str) -> int:
    """How many games an agent tells apart that learns `name`: ids of its kind and of those before it.

    So an agent of Atari names 60, whatever kinds there will be. Raises UsageError for an unknown name.
    """
    return game_id(_kind(name).games[-1]) + 1


def canonical(name: str) -> str:
    """The one name of a set of rules that has several, so that equal rules make equal keys; others are unchanged."""
    plain, std = _without_noise(name)
    plain = _ALIASES.get(plain, plain)
    return f"{plain}+noise{std:g}" if std else plain


def protocol(name: str) -> Rules:
    """The rules of that name or alias, with a suffix such as "+noise0.1" under noise; see `NoisyRules`.

    Raises UsageError for an unknown one, and for noise that is not from 0 to 1.
    """
    plain, std = _without_noise(canonical(name))
    if plain not in _PROTOCOLS:
        raise unknown("protocol", plain, (*_PROTOCOLS, *_ALIASES), "pipelines/environments defines them")
    return NoisyRules(_PROTOCOLS[plain], std) if std else _PROTOCOLS[plain]


def _without_noise(name: str) -> tuple[str, float]:
    """The rules below the noise, and its standard deviation."""
    plain, mark, text = name.partition("+noise")
    if mark and not (re.fullmatch(r"\d+(\.\d+)?(e-\d+)?", text) and float(text) <= 1):
        raise UsageError(
            f"Protocol '{name}' has noise '{text}': give a standard deviation from 0 to 1, as in iris+noise0.1"
        )
    return plain, float(text) if mark else 0.0


def check_rules(game: str, rules: Rules) -> None:
    """Raises UsageError for rules of another kind of environment than the game's, and for an unknown game."""
    plain, own = rules.rules if isinstance(rules, NoisyRules) else rules, _kind(game).protocols
    if own and type(plain) not in {type(each) for each in own.values()}:
        raise UsageError(f"{game} cannot be played under '{rules.name}': choose rules of its own, {', '.join(own)}")


def require_replay(game: str) -> None:
    """Raises UsageError for a game of which no replay is published, and for an unknown one."""
    if not _kind(game).replayed:
        raise UsageError(
            f"{game} has no published replay: collect it by an agent's own play (worldline record), or learn online "
            "(by a recipe that plays)"
        )


def check_budget(rules: Rules, steps: int, who: str) -> None:
    """Raises UsageError where `who` plays more steps while it learns than the rules allow; most allow any number."""
    plain = rules.rules if isinstance(rules, NoisyRules) else rules
    if isinstance(plain, crafter.CrafterRules):
        plain.require_budget(steps, who)


def achievements(game: str) -> tuple[str, ...]:
    """What an episode of that game may reach besides points, by name; nothing in most. Raises as `actions`."""
    return _kind(game).achievements


def actions(game: str) -> Discrete | Box:
    """The actions that an agent chooses among in that game. Raises UsageError for an unknown game."""
    return _kind(game).actions(game)


def spaces(game: str, rules: Rules) -> Spaces:
    """What an agent sees and does in `game` under `rules`; rewards are the game's own points.

    Raises UsageError for an unknown game, and for rules of another kind.
    """
    check_rules(game, rules)
    return Spaces(rules.frame, actions(game), "raw")


def make(game: str, seeds: Sequence[int], rules: Rules, threads: int = 2, **given: Any) -> Environment:
    """One environment of `game` for each of `seeds`; `given` is what `options` found. `threads` changes no result.

    Raises UsageError for an unknown game and for rules of another kind, ValueError for no seed.
    """
    if isinstance(rules, NoisyRules):
        from pipelines.environments.noise import NoisyGame  # few rules have noise

        return NoisyGame(make(game, seeds, rules.rules, threads, **given), rules)
    check_rules(game, rules)
    return _module(game).make(game, seeds, rules, threads, **given)


def watched(game: str, seeds: Sequence[int], rules: Rules, **given: Any) -> Watched:
    """As `make`, for people who look on: slower, and it shows the screens too.

    Under Atari's rules that begin an episode with a drawn number of no-ops, that number is another one.
    """
    if isinstance(rules, NoisyRules):
        from pipelines.environments.noise import NoisyGame  # few rules have noise

        return NoisyGame(watched(game, seeds, rules.rules, **given), rules)
    check_rules(game, rules)
    return _module(game).watched(game, seeds, rules, **given)


def options(game: str, rom_dir: str = "", rom_md5: str = "") -> dict[str, Any]:
    """What the game's environment needs besides rules, for `make` and `roots`: a ROM, where it has one.

    Raises UsageError or WorldlineError where the ROM that is named is not there or not the one meant.
    """
    return _module(game).options(game, rom_dir, rom_md5)


def roots(game: str, rules: Rules, **given: Any) -> dict[str, Any]:
    """`Environment.roots` of a game that is not being played. Raises UsageError for an unknown game or other rules."""
    if isinstance(rules, NoisyRules):
        return roots(game, rules.rules, **given) | {"protocol": rules.name, "noise": rules.std}
    check_rules(game, rules)
    return _module(game).roots(game, rules, **given)


def _kind(game: str) -> Kind:
    return next(kind for kind in KINDS if check_game(game) in kind.games)


def _module(game: str) -> Any:
    return importlib.import_module(_kind(game).module)
