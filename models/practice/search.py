"""Planning with an actor and a critic: rollouts inside the world model that they practised in.

One step of policy improvement: each of the likeliest actions is tried in imagination, the actor goes on from there, and
a try is worth the rewards on the way and what the critic says of the end. `models.planning.rollouts` compares; here is
the world that it asks, in which the actor's log-probabilities stand where another family's Q does. They rank actions
and are no returns: an end is worth what the critic says (leaf "state"), or nothing ("none").

Shapes: N environments, W first actions of each, M rows of a step (N * W), K numbers of an observation, A actions, which
are the networks' own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.api import Context, Imagined
from models.planning.history import History
from models.planning.rollouts import Rollouts
from models.practice.actor_critic import Actor, Judgement
from models.practice.draws import likeliest
from models.practice.policy import ActorPolicy
from models.practice.world import RememberingPlayer


class JudgedWorld:
    """A `models.api.WorldModel` that branches once, at the present, and whose every step the actor judges.

    Behind an end that it foresees a row brings nothing more and is worth nothing.
    """

    def __init__(self, player: RememberingPlayer, actor: Actor, see: Callable[[Tensor], Tensor]) -> None:
        self._player, self._actor, self._see = player, actor, see
        self._present: Judgement | None = None
        self._alive_M: Tensor | None = None  # rows in which no end was foreseen; none before the first step

    def stand(self, judged: Judgement) -> None:
        """What the actor says of the present, whose context the next `reset` gives: it remembers more than that."""
        self._present = judged

    def reset(self, context: Context) -> Imagined:
        """See `models.api.WorldModel`. Raises ValueError where nobody told what the actor says."""
        if self._present is None or len(self._present.values_N) != len(context.games_N):
            raise ValueError("This world judges by an actor's memory: call stand(judgement of the same rows) first")
        self._context, self._memory, self._alive_M = context, self._present.memory, None
        nothing_N = context.games_N.new_zeros(len(context.games_N))
        return self._here(self._present, nothing_N.float(), nothing_N.bool(), context.tokens_NCK[:, -1])

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `models.api.WorldModel`. Raises ValueError for parents other than the present's, and before a reset."""
        if self._present is None:
            raise ValueError("This world has no rows yet: call reset(context) first")
        alive_M = self._alive_M
        if alive_M is None:
            alive_M = self._branch(len(actions_M))
        elif parents_M is not None or len(actions_M) != len(alive_M):
            raise ValueError(f"{len(actions_M)} actions: this world branches at the present alone, then goes on")
        found = self._player.step(actions_M, likeliest)
        assert found.tokens_NK is not None, "a next frame was wanted"
        memory = self._actor.told(actions_M, self._memory)
        judged = self._actor(self._see(found.tokens_NK), memory)
        rewards_M = found.rewards_N * alive_M
        self._alive_M, self._memory = alive_M & ~found.ends_N, judged.memory
        judged = judged._replace(values_N=judged.values_N * self._alive_M)
        return self._here(judged, rewards_M, found.ends_N, found.tokens_NK)

    def _branch(self, rows: int) -> Tensor:
        """Let every environment's present stand in as many rows as there are actions for it: which live, (M,) bool."""
        times, rest = divmod(rows, len(self._context.games_N))
        if rest or not times:
            raise ValueError(f"{rows} actions do not divide among {len(self._context.games_N)} environments")
        tokens_NCK, actions_NC = self._context.tokens_NCK, self._context.actions_NC
        self._player.follow(tokens_NCK.repeat_interleave(times, 0), actions_NC.repeat_interleave(times, 0))
        who_M = torch.arange(len(tokens_NCK), device=tokens_NCK.device).repeat_interleave(times)
        self._memory = self._memory.of(who_M.tolist())
        return torch.ones_like(who_M, dtype=torch.bool)

    @staticmethod
    def _here(judged: Judgement, rewards_M: Tensor, ends_M: Tensor, tokens_MK: Tensor) -> Imagined:
        return Imagined(judged.logits_NA.log_softmax(-1), rewards_M, ends_M, tokens_MK, judged.values_N)


class RolloutPolicy(ActorPolicy):
    """An `ActorPolicy` that plays what rollouts choose in `world`, at the discount `gamma`.

    parts: what an `ActorPolicy` is made of. They begin from the `acting.context` newest steps.
    """

    def __init__(self, world: JudgedWorld, planner: Rollouts, gamma: float, *parts: Any) -> None:
        super().__init__(*parts)
        self._world, self._planner, self._gamma = world, planner, gamma
        self._history = History(self._acting.games_N, self._acting.context or 1)

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """See `models.api.Policy`."""
        super().begin(rows, seeds)
        self._history.forget(rows)

    @torch.no_grad()
    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        """See `models.api.Policy`."""
        super().recall(row, frames, actions)
        newest = slice(max(0, len(frames) - self._history.length), None)
        if len(frames):
            self._history.recall(row, self._encode(frames[newest]), actions[newest])

    @torch.no_grad()
    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> Tensor:
        """See `models.api.Policy`."""
        self._history.see(rows, tokens_NK)
        actions_N = super().act_on_tokens(tokens_NK, rows)
        self._history.done(rows, actions_N)
        return actions_N

    def _best(self, judged: Judgement, rows: Sequence[int]) -> Tensor:
        actions_N = torch.empty(len(rows), dtype=torch.long, device=judged.logits_NA.device)
        for places in self._history.groups(rows):
            group = [rows[place] for place in places]
            context = self._history.context(group)
            own = Context(context.tokens_NCK, self._interface.own(context.actions_NC), context.games_N)
            self._world.stand(Judgement(judged.logits_NA[places], judged.values_N[places], judged.memory.of(places)))
            actions_N[places] = self._planner.plan(self._world, own, self._legal_NA[group], self._gamma)
        return actions_N
