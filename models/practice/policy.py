"""Acting with an actor that remembers: it sees what its family shows of a frame's tokens, as it does in imagination.

Shapes: N environments of those that play now, T steps, C channels of H x W pixels, A actions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.api import Acting, ActionValues
from models.practice.actor_critic import Actor, Judgement, Memory
from models.practice.draws import choose
from models.practice.interface import Interface


class ActorPolicy:
    """Remembers each environment's episode in the actor's state. Every environment draws from its own stream.

    encode: frames (N, C, H, W) uint8 -> tokens (N, K). see: tokens (N, K) -> what the actor sees. burn_in: frames that
    fill the actor's state at most; told: whether it is told of the actions done at these, as it was when it learned.
    The actor is put in eval mode. An actor that is told of actions is told of those that are done, random ones too.
    Raises ValueError where a shape or number does not fit.
    """

    def __init__(
        self,
        actor: Actor,
        encode: Callable[[Tensor], Tensor],
        see: Callable[[Tensor], Tensor],
        interface: Interface,
        acting: Acting,
        burn_in: int,
        told: bool = True,
    ) -> None:
        rows, actions = len(acting.games_N), actor.config.num_actions
        legal_NA = interface.legal(acting.legal_NA)
        if legal_NA.shape != (rows, actions) or not bool(legal_NA.any(1).all()):
            raise ValueError(
                f"Legal actions {tuple(legal_NA.shape)}: give at least one of {actions} to each of {rows} rows"
            )
        if not 0 <= acting.epsilon <= 1 or acting.temperature < 0:
            raise ValueError(
                f"Epsilon {acting.epsilon} and temperature {acting.temperature}: give 0 to 1, and at least 0"
            )
        self._actor, self._encode, self._see, self._interface = actor.eval(), encode, see, interface
        self._acting, self._legal_NA, self._burn_in, self._told = acting, legal_NA, burn_in, told
        self._memory = actor.fresh(rows)
        self._logits_NA = torch.zeros(rows, actions, device=legal_NA.device)  # of the newest decision
        self._streams = [torch.Generator().manual_seed(row) for row in range(rows)]

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """See `models.api.Policy`."""
        for row, seed in zip(rows, seeds, strict=True):
            self._streams[row] = torch.Generator().manual_seed(seed)
        self._remember(rows, self._actor.fresh(len(rows)))

    @torch.no_grad()
    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        """See `models.api.Policy`: the state is that after a burn-in on the newest frames, as in learning."""
        steps = min(len(frames), self._burn_in)
        if steps:
            newest = slice(len(frames) - steps, None)
            seen_TX, own_1T = self._see(self._encode(frames[newest])), self._interface.own(actions[None, newest])
            told_1T = own_1T if self._told else None
            memory = self._actor.burn_in(seen_TX[:, None], torch.ones_like(own_1T, dtype=torch.bool), told_1T)
            self._remember([row], memory)

    @torch.no_grad()
    def act(self, frames: Tensor, rows: Sequence[int]) -> Tensor:
        """Actions (N,) long for the newest frames (N, C, H, W) uint8 of these environments."""
        return self.act_on_tokens(self._encode(frames), rows)

    @torch.no_grad()
    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> Tensor:
        """See `models.api.Policy`: it sees what its family shows of them, as in imagination."""
        chosen = list(rows)
        judged = self._actor(self._see(tokens_NK), self._memory.of(chosen))
        self._logits_NA[chosen] = judged.logits_NA
        legal_NA = self._legal_NA[chosen]
        # All draws are always made, and on the CPU, so that a seed means the same play everywhere.
        draws = [torch.rand(3, generator=self._streams[row], dtype=torch.float64) for row in rows]
        chance_N, any_N, own_N = torch.stack(draws, dim=1).to(legal_NA.device)
        if self._acting.temperature:
            logits_NA = judged.logits_NA.masked_fill(~legal_NA, -torch.inf)
            actions_N = choose(logits_NA / self._acting.temperature, own_N)
        else:
            actions_N = self._best(judged, rows)
        random_N = choose(torch.zeros_like(judged.logits_NA).masked_fill(~legal_NA, -torch.inf), any_N)
        actions_N = torch.where(chance_N < self._acting.epsilon, random_N, actions_N)
        self._remember(rows, self._actor.told(actions_N, judged.memory))
        return self._interface.theirs(actions_N)

    def values(self, row: int) -> ActionValues:
        """See `models.api.Policy`: the actor's probabilities, which are 0 of what is not legal or not known to it."""
        interface, legal_NA = self._interface, self._legal_NA[[row]]
        logits_NA = self._logits_NA[[row]].masked_fill(~legal_NA, -torch.inf)
        scattered_A = torch.zeros(self._acting.legal_NA.shape[1], device=logits_NA.device)
        known = interface.theirs(torch.arange(legal_NA.shape[1], device=logits_NA.device))
        scattered_A[known] = logits_NA[0].softmax(-1)
        return ActionValues(scattered_A, "probability")

    def _best(self, judged: Judgement, rows: Sequence[int]) -> Tensor:
        """Our actions (N,) where none is drawn: the likeliest legal ones."""
        return judged.logits_NA.masked_fill(~self._legal_NA[list(rows)], -torch.inf).argmax(-1)

    def _remember(self, rows: Sequence[int], memory: Memory) -> None:
        chosen = list(rows)
        for ours, new in zip(self._memory, memory, strict=True):
            ours[chosen] = new.to(ours.dtype)
