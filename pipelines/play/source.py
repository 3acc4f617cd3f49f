"""What is played: a loaded agent, its game and rules, how it chooses, and where a dream begins.

Letters: C steps of context, H, W pixels, K tokens a frame, A actions of the environment.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.spaces import Box
from pipelines.environments.actions import action_names, network_actions, stored_action, stored_actions, to_shared
from pipelines.environments.registry import Environment, Rules, emulator_seeds, make
from pipelines.environments.registry import actions as space_of
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayerSettings

if TYPE_CHECKING:
    from models.api import Agent
    from pipelines.evaluation.players import AgentPlayer
    from pipelines.play.episodes import EpisodeSet


Action = int | tuple[float, ...]
"""a place among a game's own actions, or the numbers of one that is no choice"""


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
    actions: NDArray[Any]  # (C - 1,) int64, the environment's numbers; or (C - 1, A) float32 of a Box
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
        """Names of the game's own actions; none where they are numbers."""
        return action_names(self.game)

    @property
    def noop(self) -> Action:
        """The place of the action that does nothing, or of the first one; of numbers all are 0."""
        if isinstance(space := space_of(self.game), Box):
            return (0.0,) * space.size
        return self.actions.index("NOOP") if "NOOP" in self.actions else 0

    def given(self, action: Action) -> NDArray[Any]:
        """An action as one environment is given it, (1,), or (1, A) of numbers. Raises UsageError as `shared`."""
        if isinstance(action, tuple):
            return np.array([action], np.float32)
        return np.array([self.shared(action)])

    def chosen(self, action: NDArray[Any]) -> Action:
        """The reverse: what a player chose for one environment."""
        return self.told(stored_actions(self.game, action))

    def told(self, action: NDArray[Any]) -> Action:
        """An action as episodes hold it."""
        return tuple(map(float, action)) if stored_action(self.game).shape else int(action)

    def shared(self, place: int) -> int:
        """The environment's number of an own action. Raises UsageError for a place that there is not."""
        if not 0 <= place < len(self.actions):
            raise UsageError(
                f"Action {place} is none of {self.game}'s {len(self.actions)}: give 0 to {len(self.actions) - 1}, for "
                f"{', '.join(self.actions)}"
            )
        return int(to_shared(self.game, [place])[0])

    def thought(self, player: "AgentPlayer") -> tuple[NDArray[np.float32] | None, str]:
        """What an agent that just acted thinks of each named action, and what that is; of numbers it tells nothing."""
        if not self.actions:
            return None, ""
        values_A, kind = player.values(0)
        return self.own_values(values_A), kind

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

    def episodes(self, of: str) -> "EpisodeSet":
        """The set of that name. Raises UsageError where there is none."""
        if of not in self.sets:
            there = f"choose of {', '.join(self.sets)}" if self.sets else "begin in the emulator, without an episode"
            raise UsageError(f"There are no {of} episodes of {self.game} here: {there}")
        return self.sets[of]

    def beginning(self, seed: int) -> Beginning:
        """The newest real steps up to `start`. Raises UsageError for an episode or a step that there is not."""
        if self.start.episode is not None:
            return self._from_episode(self.start.episode)
        games, found = self.standing(seed)
        games.close()
        return found

    def standing(self, seed: int) -> tuple[Environment, Beginning]:
        """The game itself at `start`, which the caller closes, and the newest real steps up to there.

        Raises UsageError as `beginning`, and where an emulator cannot be brought there.
        """
        from pipelines.play.episodes import EvaluatedEpisodes, require_step

        start = self.start
        if start.episode is None:
            return self._from_emulator(seed)
        episodes = self.episodes(start.of)
        require_step(start.of, episodes, start.episode, start.step)
        if not isinstance(episodes, EvaluatedEpisodes):
            raise UsageError(
                f"No emulator can stand in a {start.of} episode, whose actions alone do not lead there: begin in an "
                "evaluated one (--of evaluated), or in the emulator (--episode -1)"
            )
        return episodes.emulator(start.episode, start.step), self._from_episode(start.episode)

    def _from_episode(self, episode: int) -> Beginning:
        from pipelines.play.episodes import require_step

        start, episodes = self.start, self.episodes(self.start.of)
        require_step(start.of, episodes, episode, start.step)
        piece = episodes.read(episode, max(0, start.step + 1 - self._steps), start.step + 1)
        told = f"{start.of} episode {episode}, step {start.step}"
        return Beginning(piece.frames, network_actions(self.game, piece.actions[:-1]), told)

    def _from_emulator(self, seed: int) -> tuple[Environment, Beginning]:
        wait = self.given(self.noop)
        games = make(self.game, [self.episode_seed(seed, 0)], self.rules, 1, **self.options)
        frames = deque([games.reset()[0]], maxlen=self._steps)
        for number in range(1, self.start.step + 1):
            step = games.step(wait)
            if step.ended[0]:
                games.close()
                raise UsageError(f"{self.game} ends after {number} no-ops: begin at an earlier step than {number}")
            frames.append(step.frames[0])
        actions = np.repeat(wait, len(frames) - 1, axis=0)
        return games, Beginning(np.stack(list(frames)), actions, f"the emulator's start, step {self.start.step}")

    @property
    def _steps(self) -> int:
        """How many real ones a dream begins with."""
        return max(self.settings.context, 1)
