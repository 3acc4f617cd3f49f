"""Looking one step ahead from real states, in imagination and in the emulator itself, valued by the same agent.

In states of its own play (greedy, with random actions in between) every legal action is tried twice: in the world
model, and in the emulator, which stays where it is. Both next states are valued by the agent as a search would value
them. What differs between the two is the world model's; what is wrong with both is the values'.
`play_by` then plays by each choice, the evaluation's own search among them, so that the promise can be held against the
points.

Shapes: S states, A the game's legal actions in order of their numbers, E environments, C steps of context, K tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Agent, Context, Imagined, WorldModel
from models.planning.beam import Beam, Leaf, leaf_values, masked_values
from pipelines.environments.actions import legal_mask
from pipelines.environments.atari.environment import EmulatorGame
from pipelines.environments.atari.games import AtariRules
from pipelines.environments.registry import NoisyRules, Rules, check_rules, game_id, watched
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import require_values
from pipelines.evaluation.players import channels_first
from pipelines.progress import track

AT_RANDOM = 8  # steps of a play that begin it, drawn by its seed: under rules without chance plays differ by them
KNOWN_FROM = 0.05  # a return counts as known where what lies beyond the play is discounted by this much or more


class Tried(NamedTuple):
    """What one step by every action brings, each (R, A) but for the tokens; R rows."""

    rewards: Tensor
    worths: Tensor
    ends: Tensor
    expected: Tensor  # means of the rewards' signs; the rewards again where no means are told
    tokens: Tensor  # (R, A, K) of the next frame

    @classmethod
    def of_rows(cls, rows: int, *found_M: Tensor) -> "Tried":
        """Of M = R x A steps, all actions of a row in turn."""
        return cls(*(each_M.unflatten(0, (rows, -1)) for each_M in found_M))


@dataclass(frozen=True)
class Looker:
    """An agent that looks ahead in a game; `context` newest steps are seen. A beam of `width` and `horizon` plays too;
    by its leaf all next states are valued. `hold`: for how many steps an action is tried where rewards alone decide.

    Raises UsageError where its world values no actions, or not what the leaf asks for, and where context and search do
    not fit what it remembers.
    """

    agent: Agent
    game: str
    context: int
    width: int = 2
    horizon: int = 2
    leaf: Leaf = "max"
    hold: int = 4

    def __post_init__(self) -> None:
        if not self.agent.config.family or self.agent.vocabulary == 0:
            raise UsageError(f"Agents of the family '{self.agent.config.family}' have no tokens to look ahead in")
        require_values(self.agent.config, self.leaf)
        most = self.agent.limits.steps
        if self.context + self.horizon > most:
            raise UsageError(
                f"A context of {self.context} and a horizon of {self.horizon} do not fit the {most} steps that "
                f"this model remembers: set diagnose.context to {max(1, most - self.horizon)} or less"
            )

    @property
    def legal(self) -> NDArray[np.int64]:
        """Numbers (A,) of the game's actions."""
        return np.flatnonzero(legal_mask(self.game))

    def encode(self, frames_N: NDArray[np.uint8]) -> Tensor:
        """Tokens (N, K) of frames (N, H, W) or (N, H, W, C)."""
        return self.agent.encode(channels_first(frames_N).to(self._device))

    def worths(self, here: Imagined) -> Tensor:
        """What each row (N,) is worth as the end of a path."""
        legal_NA = torch.as_tensor(legal_mask(self.game), device=here.values_NA.device).expand_as(here.values_NA)
        return leaf_values(here, masked_values(here.values_NA.float(), legal_NA), self.leaf)

    def values(self, here: Imagined) -> Tensor:
        """Q (N, A) of the legal actions. Raises UsageError where the world values none."""
        if not here.values_NA.shape[1]:
            raise UsageError(f"Agents of the family '{self.agent.config.family}' value no actions: diagnose a JOWA")
        return here.values_NA.float()[:, torch.as_tensor(self.legal, device=here.values_NA.device)]

    def imagined(self, world: WorldModel, rows: int) -> Tried:
        """After a reset of `rows`: one imagined step by each action.

        Worths are as a search reads them, whatever the world says of ends.
        """
        actions_A = torch.as_tensor(self.legal, device=self._device)
        parents_M = torch.zeros(rows * len(actions_A), dtype=torch.long, device=self._device)
        here = world.step(actions_A.repeat(rows), parents_M)
        means_M = here.rewards_N if here.expected_N is None else here.expected_N
        return Tried.of_rows(rows, here.rewards_N.float(), self.worths(here), here.ends_N, means_M, here.tokens_NK)

    def real(self, world: WorldModel, seen: "Seen", game: EmulatorGame) -> Tried:
        """One step of the emulator by each action: signs of rewards; an end is worth 0."""
        tried = [[game.ahead(row, int(action)) for action in self.legal] for row in range(len(seen.tokens_ECK))]
        flat = [each for row in tried for each in row]
        tokens_MK = self.encode(np.stack([frame for frame, _, _ in flat]))
        actions_M = torch.as_tensor(self.legal, device=self._device).repeat(len(tried))
        context = seen.repeated(len(self.legal)).then(actions_M, tokens_MK, self.context).context
        over_M = torch.tensor([over for _, _, over in flat], device=self._device)
        worths_M = self.worths(world.reset(context)).masked_fill(over_M, 0.0)
        rewards_M = torch.tensor([float(np.sign(reward)) for _, reward, _ in flat], device=self._device)
        return Tried.of_rows(len(tried), rewards_M, worths_M, over_M, rewards_M, tokens_MK)

    @property
    def _device(self) -> torch.device:
        return next(next(iter(self.agent.networks.values())).parameters()).device


@dataclass(frozen=True)
class Seen:
    """The newest steps of E environments that began together."""

    tokens_ECK: Tensor
    actions_EC: Tensor  # (E, C - 1)
    game: int

    @property
    def context(self) -> Context:
        """As a world reads it."""
        rows = len(self.tokens_ECK)
        return Context(self.tokens_ECK, self.actions_EC, self.tokens_ECK.new_full((rows,), self.game))

    def then(self, actions_E: Tensor, tokens_EK: Tensor, most: int) -> "Seen":
        """One step later; of older ones as many are kept as `most` allows."""
        tokens_ECK = torch.cat([self.tokens_ECK, tokens_EK[:, None]], dim=1)[:, -most:]
        actions_EC = torch.cat([self.actions_EC, actions_E[:, None]], dim=1)
        return Seen(tokens_ECK, actions_EC[:, max(0, actions_EC.shape[1] - most + 1) :], self.game)

    def repeated(self, times: int) -> "Seen":
        """Every environment so often in a row."""
        each = (self.tokens_ECK.repeat_interleave(times, 0), self.actions_EC.repeat_interleave(times, 0))
        return Seen(*each, self.game)


@dataclass(frozen=True)
class Looked:
    """What was found in S states: float64 or bool arrays (S, A), or (S,)."""

    q_SA: NDArray[np.float64]
    imagined_rewards_SA: NDArray[np.float64]
    imagined_SA: NDArray[np.float64]  # worths of imagined next states
    real_rewards_SA: NDArray[np.float64]  # their signs
    real_SA: NDArray[np.float64]  # worths of the emulator's next states
    returns_S: NDArray[np.float64]  # discounted signs of rewards that the play got from there on
    known_S: NDArray[np.bool_]  # where the play went on for long enough to say
    expected_SA: NDArray[np.float64]  # means of the imagined rewards' signs
    imagined_ends_SA: NDArray[np.bool_]
    ends_SA: NDArray[np.bool_]  # where the emulator's step ends the episode, or the life where rules end it with one
    imagined_apart_S: NDArray[np.float64]  # of imagined next frames and of the emulator's, see `apart`
    apart_S: NDArray[np.float64]


@torch.no_grad()
def look(looker: Looker, game: EmulatorGame, states: int, every: int, explore: float) -> Looked:
    """Look ahead in every `every`-th state of one environment's play until `states` were looked at.

    With chance `explore` an action is a random one. Raises UsageError as `Looker`.
    """
    agent, gamma, (seed,) = looker.agent, float(looker.agent.gamma), game.seeds
    world, draws = agent.world(), np.random.default_rng(seed)
    seen = first_seen(looker, game)
    values: list[Tensor] = []
    imagined: list[Tried] = []
    real: list[Tried] = []
    at, rewards, ends, cuts = [], [], [], []
    with track(f"Look ahead in {looker.game}", states, "states") as advance:
        for step in range(states * every):
            q_1A = looker.values(world.reset(seen.context))
            if step % every == 0:
                values.append(q_1A)
                imagined.append(looker.imagined(world, 1))
                real.append(looker.real(world, seen, game))
                at.append(step)
                advance()
            choice = int(draws.integers(len(looker.legal))) if draws.random() < explore else int(q_1A.argmax())
            action_1 = looker.legal[[choice]]
            played = game.step(action_1)
            rewards.append(float(np.sign(played.rewards[0])))
            ends.append(bool(played.terminated[0]))
            cuts.append(bool(played.truncated[0]))
            tokens_1K = looker.encode(played.frames)
            if played.terminated[0] or played.truncated[0]:
                seen = Seen(tokens_1K[:, None], seen.actions_EC[:, :0], seen.game)
            else:
                seen = seen.then(torch.as_tensor(action_1, device=tokens_1K.device), tokens_1K, looker.context)
    dreamt, brought = (Tried(*map(torch.cat, zip(*tried, strict=True))) for tried in (imagined, real))
    returns_T, beyond_T = play_returns(np.array(rewards), np.array(ends), np.array(cuts), gamma)
    known_S = beyond_T[at] <= KNOWN_FROM
    return Looked(
        q_SA=_numbers(torch.cat(values)),
        imagined_rewards_SA=_numbers(dreamt.rewards),
        imagined_SA=_numbers(dreamt.worths),
        real_rewards_SA=_numbers(brought.rewards),
        real_SA=_numbers(brought.worths),
        returns_S=returns_T[at],
        known_S=known_S,
        expected_SA=_numbers(dreamt.expected),
        imagined_ends_SA=_numbers(dreamt.ends) > 0,
        ends_SA=_numbers(brought.ends) > 0,
        imagined_apart_S=apart(_numbers(dreamt.tokens)),
        apart_S=apart(_numbers(brought.tokens)),
    )


def _numbers(found: Tensor) -> NDArray[np.float64]:
    return found.double().cpu().numpy()


def apart(tokens_SAK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a frame's tokens how many differ between the next frames of two actions: a mean (S,) over all pairs."""
    count = tokens_SAK.shape[1]
    differ_SAA = (tokens_SAK[:, :, None] != tokens_SAK[:, None]).sum(-1)
    return differ_SAA.sum((1, 2)) / max(1, count * (count - 1))


def play_returns(
    rewards_T: NDArray[np.float64], ends_T: NDArray[np.bool_], cuts_T: NDArray[np.bool_], gamma: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Discounted returns (T,) of a play, and by how much what nobody saw is discounted at each step.

    That lies beyond the last step and beyond one at which the rules cut an episode; beyond an end there is nothing.
    """
    returns, beyond, after, left = np.zeros(len(rewards_T)), np.zeros(len(rewards_T)), 0.0, 1.0
    for step in range(len(rewards_T) - 1, -1, -1):
        alive = 0.0 if ends_T[step] else gamma
        if cuts_T[step]:
            after, left = 0.0, 1.0
        after, left = rewards_T[step] + alive * after, alive * left
        returns[step], beyond[step] = after, left
    return returns, beyond


Choice = Callable[[Looker, WorldModel, Seen, EmulatorGame], Tensor]  # places (E,) among the legal actions


def by_q(looker: Looker, world: WorldModel, seen: Seen, game: EmulatorGame) -> Tensor:
    """The action of greatest Q."""
    return looker.values(world.reset(seen.context)).argmax(1)


def by_imagined(looker: Looker, world: WorldModel, seen: Seen, game: EmulatorGame) -> Tensor:
    """The action whose imagined step is worth most; of equal ones that of greater Q."""
    q_EA = looker.values(world.reset(seen.context))
    tried = looker.imagined(world, len(seen.tokens_ECK))
    return first_best(tried.rewards + float(looker.agent.gamma) * tried.worths, q_EA)


def by_real(looker: Looker, world: WorldModel, seen: Seen, game: EmulatorGame) -> Tensor:
    """The action whose step in the emulator is worth most: what a perfect world model would choose at these values."""
    q_EA = looker.values(world.reset(seen.context))
    tried = looker.real(world, seen, game)
    return first_best(tried.rewards + float(looker.agent.gamma) * tried.worths, q_EA)


def by_search(looker: Looker, world: WorldModel, seen: Seen, game: EmulatorGame) -> Tensor:
    """The first action of the best path that the search finds."""
    rows, device = len(seen.tokens_ECK), seen.tokens_ECK.device
    legal_EA = torch.as_tensor(legal_mask(looker.game), device=device).expand(rows, -1)
    beam = Beam(looker.width, looker.horizon, looker.leaf)
    actions_E = beam.plan(world, seen.context, legal_EA, float(looker.agent.gamma))
    return torch.searchsorted(torch.as_tensor(looker.legal, device=device), actions_E.contiguous())


def by_rewards(looker: Looker, world: WorldModel, seen: Seen, game: EmulatorGame) -> Tensor:
    """The action that brings most when the emulator holds it for `hold` steps, whatever lies beyond; of equal ones
    that of greater Q. No value is asked: what a world model that foresees rewards would gain by them alone.
    """
    q_EA = looker.values(world.reset(seen.context))
    discounts_H = float(looker.agent.gamma) ** np.arange(looker.hold)
    brought = [
        [discounts_H @ np.sign(game.held(row, int(action), looker.hold)) for action in looker.legal]
        for row in range(len(q_EA))
    ]
    return first_best(torch.as_tensor(np.array(brought), device=q_EA.device), q_EA)


CHOICES: dict[str, Choice] = {
    "greedy": by_q,
    "imagined": by_imagined,
    "emulator": by_real,
    "search": by_search,
    "rewards": by_rewards,
}


def first_best(worths_EA: Tensor, q_EA: Tensor) -> Tensor:
    """The best (E,) of each row; where several are equally good, the one of greatest Q."""
    best_EA = worths_EA == worths_EA.amax(1, keepdim=True)
    return q_EA.masked_fill(~best_EA, -torch.inf).argmax(1)


@torch.no_grad()
def play_by(looker: Looker, game: EmulatorGame, steps: int, name: str) -> NDArray[np.float64]:
    """Raw points (E,) of one episode or `steps` steps of it in every environment, by one of CHOICES.

    AT_RANDOM steps come first, the same for all choices, and their points do not count.
    """
    choose, world = CHOICES[name], looker.agent.world()
    draws = [np.random.default_rng(seed) for seed in game.seeds]
    seen, points_E, alive_E = first_seen(looker, game), np.zeros(len(draws)), np.ones(len(draws), bool)
    with track(f"Play {looker.game}, {name}", steps, "steps") as advance:
        for step in range(-AT_RANDOM, steps):
            if step < 0:
                actions_E = np.array([each.choice(looker.legal) for each in draws])
            else:
                actions_E = looker.legal[choose(looker, world, seen, game).cpu().numpy()]
                advance()
            played = game.step(actions_E)
            points_E += played.rewards * (alive_E & (step >= 0))
            alive_E &= ~played.ended
            if not alive_E.any():
                break
            tokens_EK = looker.encode(played.frames)
            seen = seen.then(torch.as_tensor(actions_E, device=tokens_EK.device), tokens_EK, looker.context)
    return points_E


def first_seen(looker: Looker, game: EmulatorGame) -> Seen:
    """The first frames of fresh episodes."""
    tokens_EK = looker.encode(game.reset())
    return Seen(tokens_EK[:, None], tokens_EK.new_zeros(len(tokens_EK), 0), game_id(looker.game))


def require_emulator(game: str, rules: Rules) -> None:
    """Raises UsageError where a game under these rules is not played in an emulator that can look ahead."""
    check_rules(game, rules)
    if isinstance(rules, NoisyRules):
        raise UsageError(
            f"'{rules.name}' draws noise over frames, and looking ahead in the emulator draws none: set "
            f"diagnose.protocol={rules.rules.name}"
        )
    if not isinstance(rules, AtariRules):
        raise UsageError(f"{game} is not played in an emulator whose state can be saved: diagnose an Atari game")


def watched_game(game: str, seeds: tuple[int, ...], rules: Rules, **given: Any) -> EmulatorGame:
    """Emulators that can look ahead; `given` as of `registry.make`. Raises UsageError as `require_emulator`."""
    require_emulator(game, rules)
    found = watched(game, seeds, rules, **given)
    assert isinstance(found, EmulatorGame), "Atari's is one"
    return found
