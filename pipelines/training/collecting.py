"""An agent plays its game in turns while it learns, and what it plays becomes its experience.

A turn begins as it would after a kill: a fresh policy that recalls the newest steps of an episode that is under way. So
nothing of a turn lives on but what `Experience` holds, and a run that is resumed plays every turn again to the bit: an
environment is brought back by making its game anew from its seed and playing the recorded actions.
With several environments a turn's steps are shared out evenly. The first rank plays, the others read what it wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.api import Acting, Agent
from pipelines.environments.actions import legal_mask, network_actions, stored_actions
from pipelines.environments.registry import Environment, Rules, game_id, make, roots, spaces
from pipelines.episodes.experience import Experience, Game
from pipelines.errors import WorldlineError
from pipelines.progress import track
from pipelines.training.inputs import channels_first

BLOCK = 128  # steps of an environment that are written at once
ORIGIN = ("protocol", "rom_md5", "emulator")  # of `roots`: what is never mixed in one experience
RECALLED = 64  # newest steps of an episode under way that a policy is shown; more than any family looks back


@dataclass(frozen=True)
class Stage:
    """Where an agent plays: the game, its rules, how many environments, from which seed, and their options (a ROM)."""

    game: str
    rules: Rules
    environments: int
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, row: int, number: int, first: int = 0) -> Game:
        """Game `number` of an environment: each has a seed of its own."""
        drawn = np.random.SeedSequence([self.seed, row, number]).generate_state(1)
        return Game(int(drawn[0]) >> 1, number, first)

    def experience(self, folder: Path) -> Experience:
        """What was played here so far, in `folder`."""
        begin = [self.begin(row, 0) for row in range(self.environments)]
        played = roots(self.game, self.rules, **self.options)
        origin = {name: played[name] for name in ORIGIN if name in played}
        return Experience(folder, self.game, spaces(self.game, self.rules).frame_shape, begin, origin)


@dataclass
class _Row:
    """One environment during a turn: its game, what it shows, and the steps that are not written yet."""

    environment: Environment
    game: Game
    frame: NDArray[np.uint8]
    played: int  # steps in all
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    steps: list[tuple[Any, float, bool, bool]] = field(default_factory=list)  # action, reward, terminal, truncated


class Collector:
    """Plays turns into `experience`. The networks' modes and torch's global draws stay as they were.

    piece: the context in which the networks run, for each decision. truncation_ends: whether an episode that the rules
    cut is recorded as one that the game ended.
    """

    def __init__(
        self,
        agent: Agent,
        stage: Stage,
        experience: Experience,
        temperature: float = 1.0,
        piece: Callable[[], AbstractContextManager[None]] = nullcontext,
        truncation_ends: bool = False,
    ) -> None:
        self.stage, self.experience = stage, experience
        self._agent, self._temperature, self._piece = agent, temperature, piece
        self._truncation_ends = truncation_ends
        self._rows: list[_Row] | None = None  # as the last turn left them

    def play(self, turn: int, steps: int, epsilon: float) -> dict[str, float]:
        """Play a turn and commit it; returns what is logged of it: steps, and the episodes that ended in it.

        Raises WorldlineError where an environment cannot be brought back.
        """
        if self._rows is None:
            self._rows = [self._bring_back(row) for row in range(self.stage.environments)]
        before = self.experience.last.steps
        rows = self._rows
        modes = [(network, network.training) for network in self._agent.networks.values()]
        with torch.random.fork_rng(), torch.no_grad(), track(f"Play {self.stage.game}", steps, "steps") as advance:
            policy = self._policy(turn, epsilon)
            left = [steps // len(rows) + (row < steps % len(rows)) for row in range(len(rows))]
            while any(left):
                playing = [row for row, more in enumerate(left) if more]
                self._step(policy, playing, turn)
                for row in playing:
                    left[row] -= 1
                advance(len(playing))
        for network, training in modes:
            network.train(training)
        for row in range(len(rows)):
            self._write(row)
        self.experience.commit([row.game for row in rows])
        return self._told(before)

    def rewind(self, turns: int) -> None:
        """Go back to what there was after so many turns; the environments are brought back when they play again."""
        self.experience.rewind(turns)
        self._rows = None

    def close(self) -> None:
        """Let go of the environments."""
        for row in self._rows or []:
            row.environment.close()
        self._rows = None

    # ---- inside ----

    def _policy(self, turn: int, epsilon: float) -> Any:
        """A policy that knows what was seen of the episodes under way."""
        assert self._rows is not None
        device = next(next(iter(self._agent.networks.values())).parameters()).device
        count, game = len(self._rows), self.stage.game
        acting = Acting(
            games_N=torch.full((count,), game_id(game), device=device),
            legal_NA=torch.as_tensor(legal_mask(game)).expand(count, -1).to(device),
            epsilon=epsilon,
            temperature=self._temperature,
        )
        policy = self._agent.policy(acting)
        starts = self.experience.episode_starts
        for row in range(count):
            policy.begin([row], [_seed(self.stage.seed, turn, row, 0)])
            first, last = self._rows_of(row)
            begin = int(starts[np.searchsorted(starts, last, side="left") - 1]) if last > first else last
            if last > first and not self._ended(last - 1):
                newest = max(begin, last - RECALLED)
                frames = torch.as_tensor(np.array(self.experience.frames(newest, last)))
                actions = torch.as_tensor(network_actions(game, self.experience.actions[newest:last]))
                with self._piece():
                    policy.recall(row, channels_first(frames, 3).to(device), actions.to(device))
        return policy

    def _step(self, policy: Any, playing: Sequence[int], turn: int) -> None:
        assert self._rows is not None
        rows = [self._rows[row] for row in playing]
        frames = torch.as_tensor(np.stack([row.frame for row in rows]))
        device = next(next(iter(self._agent.networks.values())).parameters()).device
        with self._piece():
            actions = policy.act(channels_first(frames, 3).to(device), list(playing)).cpu().numpy()
        own = stored_actions(self.stage.game, actions)
        for place, (number, row) in enumerate(zip(playing, rows, strict=True)):
            step = row.environment.step(actions[place : place + 1])
            ended, over = bool(step.ended[0]), step.goes_on is None or not bool(step.goes_on[0])
            row.frames.append(row.frame)
            cut = bool(step.truncated[0])
            terminal = bool(step.terminated[0]) or (cut and self._truncation_ends)
            row.steps.append((own[place], float(step.rewards[0]), terminal, cut))
            row.frame, row.played = step.frames[0], row.played + 1
            if ended and over:
                row.game = self.stage.begin(number, row.game.number + 1, row.played)
                row.frame = row.environment.restart([0], [row.game.seed])[0]
            if ended:
                policy.begin([number], [_seed(self.stage.seed, turn, number, row.played)])
            if len(row.steps) == BLOCK:
                self._write(number)

    def _write(self, number: int) -> None:
        assert self._rows is not None
        row = self._rows[number]
        if row.steps:
            self.experience.add(number, np.stack(row.frames), np.array(row.steps, self.experience.step))
            row.frames, row.steps = [], []

    def _bring_back(self, number: int) -> _Row:
        """The environment as it stood after the last turn."""
        game, played = self.experience.last.games[number], self.experience.last.steps[number]
        environment = make(self.stage.game, [game.seed], self.stage.rules, 1, **self.stage.options)
        frame = environment.reset()[0]
        first = self._rows_of(number)[0]
        rows = slice(first + game.first, first + played)
        own, rewards = self.experience.actions[rows], self.experience.rewards[rows]
        for action, reward in zip(network_actions(self.stage.game, own), rewards, strict=True):
            step = environment.step(action[None])
            if float(step.rewards[0]) != float(reward):
                raise WorldlineError(
                    f"{self.stage.game} gives {float(step.rewards[0]):g} points where {float(reward):g} were recorded: "
                    "the emulator is not the one that this training began with; install that version, or delete "
                    f"{self.experience.folder.parent}, and the training starts anew"
                )
            frame = step.frames[0]
        return _Row(environment, game, frame, played)

    def _rows_of(self, number: int) -> tuple[int, int]:
        """The flat rows of an environment: the first, and the one behind the last."""
        steps = self.experience.last.steps
        return sum(steps[:number]), sum(steps[: number + 1])

    def _ended(self, row: int) -> bool:
        return bool(self.experience.terminals[row] or self.experience.truncations[row])

    def _told(self, before: Sequence[int]) -> dict[str, float]:
        """What a turn brought: the steps in all; how many episodes it ended, their mean return and length."""
        returns, lengths, first = [], [], 0
        ended = self.experience.terminals | self.experience.truncations
        starts = self.experience.episode_starts
        for done, now in zip(before, self.experience.last.steps, strict=True):
            for last in first + done + np.flatnonzero(ended[first + done : first + now]):
                begin = int(starts[np.searchsorted(starts, last, side="right") - 1])
                returns.append(float(self.experience.rewards[begin : last + 1].sum()))
                lengths.append(int(last + 1 - begin))
            first += now
        told = {"steps_played": float(len(self.experience)), "episodes": float(len(returns))}
        if returns:
            told |= {"return": float(np.mean(returns)), "episode_length": float(np.mean(lengths))}
        return told


def _seed(seed: int, turn: int, row: int, played: int) -> int:
    """Whence a policy draws from here on."""
    return int(np.random.SeedSequence([seed, 1, turn, row, played]).generate_state(1)[0]) >> 1
