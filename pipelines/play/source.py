"""What is played: a loaded agent, its game and rules, how it chooses, and where a dream begins.

Letters: C steps of context, H, W pixels, K tokens a frame, A actions of the environment.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import Rules, emulator_seeds, make, own_actions, to_own, to_shared
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayerSettings

if TYPE_CHECKING:
    from models.api import Agent
    from pipelines.evaluation.players import AgentPlayer
    from pipelines.play.episodes import EpisodeSet


@dataclass(frozen=True)
class Start:
    """Where a dream begins: at a step of an episode of the set of that name, or without episode in the emulator.

    In the emulator, `step` no-ops are played first.
    """

    episode: int | None = None
    step: int = 0
    of: str = "recorded"


@dataclass(frozen=True)
class Beginning:
    """The real steps that a dream begins with: frames (C, H, W) or (C, H, W, 3), and the actions between them."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]  # (C - 1,) the environment's numbers
    told: str  # where it is from, in words


@dataclass(frozen=True)
class PlaySource:
    """All that modes need. `options` are what `registry.options` found for the game.

    settings: how the agent chooses; its `context` is also how many real steps a dream begins with. sets: episodes by
    name, such as "recorded". sample: whether dreams are drawn; None leaves it to the family. reconstruction: whether
    the tokenizer's picture is shown too. piece: the context in which networks run, by kind of work.
    """

    game: str
    rules: Rules
    agent: "Agent"
    settings: PlayerSettings
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    start: Start = Start()
    sets: "Mapping[str, EpisodeSet]" = field(default_factory=dict)
    sample: bool | None = None
    reconstruction: bool = False
    piece: Callable[[str], AbstractContextManager[None]] = lambda kind: nullcontext()

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the game's own actions."""
        return own_actions(self.game)

    @property
    def noop(self) -> int:
        """The place of the action that does nothing, or of the first one."""
        return self.actions.index("NOOP") if "NOOP" in self.actions else 0

    def shared(self, place: int) -> int:
        """The environment's number of an own action. Raises UsageError for a place that there is not."""
        if not 0 <= place < len(self.actions):
            raise UsageError(
                f"Action {place} is none of {self.game}'s {len(self.actions)}: give 0 to {len(self.actions) - 1}, for "
                f"{', '.join(self.actions)}"
            )
        return int(to_shared(self.game, [place])[0])

    def own(self, action: int) -> int:
        """The place of one of the environment's numbers."""
        return int(to_own(self.game, [action])[0])

    def own_values(self, values_A: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of values of the environment's actions those of the game's own, in its order."""
        return values_A[to_shared(self.game, np.arange(len(self.actions))).astype(np.int64)]

    def episode_seed(self, seed: int, number: int) -> int:
        """The emulator's, of the episode of that number of a session of that seed."""
        return emulator_seeds(seed, number + 1)[number]

    def player(self) -> "AgentPlayer":
        """The agent, as it plays one environment."""
        from pipelines.evaluation.players import AgentPlayer

        return AgentPlayer(self.settings, [self.game], self.agent, lambda: self.piece("play"))

    def beginning(self, seed: int) -> Beginning:
        """The newest real steps up to `start`. Raises UsageError for an episode or a step that there is not."""
        start, count = self.start, max(self.settings.context, 1)
        if start.episode is None:
            return self._from_emulator(seed, count)
        if start.of not in self.sets:
            there = f"there are {', '.join(self.sets)}" if self.sets else "there are none: begin in the emulator"
            raise UsageError(f"There are no {start.of} episodes of {self.game} to begin with: {there}")
        episodes = self.sets[start.of]
        episodes.require(start.episode, start.step)
        first = max(0, start.step + 1 - count)
        piece = episodes.read(start.episode, first, start.step + 1)
        told = f"{start.of} episode {start.episode}, step {start.step}"
        return Beginning(piece.frames, to_shared(self.game, piece.actions[:-1]).astype(np.int64), told)

    def _from_emulator(self, seed: int, count: int) -> Beginning:
        wait = self.shared(self.noop)
        with closing(make(self.game, [self.episode_seed(seed, 0)], self.rules, 1, **self.options)) as games:
            frames = [games.reset()[0]]
            for number in range(1, self.start.step + 1):
                step = games.step(np.array([wait]))
                if step.ended[0]:
                    raise UsageError(f"{self.game} ends after {number} no-ops: begin at an earlier step than {number}")
                frames = [*frames[-(count - 1) :], step.frames[0]] if count > 1 else [step.frames[0]]
        actions = np.full(len(frames) - 1, wait, np.int64)
        return Beginning(np.stack(frames), actions, f"the emulator's start, step {self.start.step}")
