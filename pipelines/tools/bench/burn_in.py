"""What leaving actions out of a burn-in changes: `python -m pipelines.tools.bench.burn_in STAGE/SUBJECT/KEY`.

The originals of REM and Simulus fill an actor's memory with frames alone before it imagines, though it is told of
actions later. Here a trained agent stands at states of the episode that it did not learn from, and judges each with a
memory that was filled with frames and actions (as `actor_critic.burn_in_actions=true` does), with frames alone
(`false`), and with nothing at all, for scale. Told are how far policies are apart, how often the likeliest action is
another, and how far values are apart beside their spread over states. `worldline list` prints addresses of agents that
learned from stored trajectories, which lie in the home's own store. Nothing is timed and nothing is written.

Shapes: S states, T steps of a burn-in, K tokens a frame, A actions.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from models.practice.actor_critic import Judgement
from models.practice.agent import PracticeAgent
from models.practice.block_agent import BlockAgent
from pipelines import home
from pipelines.batches.loader import SegmentSource, widened
from pipelines.batches.segments import Segmentation
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training import inputs
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device

STATES, AT_ONCE = 500, 64


@dataclass(frozen=True)
class Apart:
    """How far one way of filling the memory is from that with actions, over states."""

    way: str
    kl: float  # nats, mean over states of KL(with actions || this way)
    kl_worst: float  # of a twentieth of states it is larger
    other_action: float  # share of states whose likeliest action is another
    value: float  # mean absolute difference of values
    spread: float  # standard deviation over states of values with actions
    entropy: float  # nats, mean, of this way's policy

    def __str__(self) -> str:
        return (
            f"{self.way}: KL {self.kl:.4f} nats (95% of states below {self.kl_worst:.4f}), likeliest action another in "
            f"{self.other_action:.1%}, values {self.value:.4f} apart, which spread by {self.spread:.4f} over states, "
            f"entropy {self.entropy:.3f}"
        )


def apart(way: str, told: Judgement, other: Judgement) -> Apart:
    """What differs between what is judged of the same states (S, A) with two memories."""
    log_told_SA, log_other_SA = (each.logits_NA.log_softmax(-1) for each in (told, other))
    kl_S = (log_told_SA.exp() * (log_told_SA - log_other_SA)).sum(-1)
    return Apart(
        way,
        float(kl_S.mean()),
        float(kl_S.quantile(0.95)),
        float((log_told_SA.argmax(-1) != log_other_SA.argmax(-1)).float().mean()),
        float((told.values_N - other.values_N).abs().mean()),
        float(told.values_N.std()),
        float(-(log_other_SA.exp() * log_other_SA).sum(-1).mean()),
    )


@torch.no_grad()
def judged(agent: PracticeAgent, windows_STK: Tensor, actions_ST: Tensor | None, steps: int) -> Judgement:
    """What the actor says of the last frame of each window, behind a burn-in on the newest `steps` before it."""
    actor, found = agent._actor.eval(), []
    for rows in torch.arange(len(windows_STK)).split(AT_ONCE):
        tokens_NTK = windows_STK[rows][:, windows_STK.shape[1] - 1 - steps :]
        real_NT = torch.ones(tokens_NTK.shape[0], steps, dtype=torch.bool)
        seen = (agent.see(tokens_NK) for tokens_NK in tokens_NTK[:, :-1].unbind(1))
        memory = actor.burn_in(seen, real_NT, None if actions_ST is None else actions_ST[rows])
        found.append(actor(agent.see(tokens_NTK[:, -1]), memory))
    return Judgement(
        torch.cat([each.logits_NA for each in found]), torch.cat([each.values_N for each in found]), memory
    )


def measure(agent: PracticeAgent, data: Trajectories, holdout: int, states: int = STATES) -> list[Apart]:
    """The rows of one agent, at states evenly spread over the held-out episodes. UsageError where there are none."""
    steps = agent.config.actor_critic.burn_in
    if not isinstance(agent, BlockAgent) or not agent.config.actor_critic.action_inputs:
        raise UsageError(
            "This agent's memory is told of no actions: give one of REM or Simulus with action_inputs=true"
        )
    starts = data.episode_starts[inputs.held_out_from(data.game, data.num_episodes, holdout) :]
    ends = [np.arange(first + steps, last) for first, last in pairwise(starts)]
    every = np.concatenate(ends)
    if not len(every):
        raise UsageError(f"{data.game} has no held-out step behind {steps} others: learn with loop.holdout_episodes=1")
    chosen = every[np.linspace(0, len(every) - 1, min(states, len(every))).astype(int)]
    first = int(starts[0])
    frames = inputs.channels_first(torch.as_tensor(data.frames(first, int(starts[-1]))), grey=3)
    tokens = torch.cat([agent.encode(part) for part in frames.split(4 * AT_ONCE)])
    window_ST = torch.as_tensor(chosen[:, None] + np.arange(-steps, 1))
    windows_STK = tokens[window_ST - first]
    done = SegmentSource(data, Segmentation(data.episode_starts, 1, 1, "right")).actions
    actions_ST = agent._interface.own(torch.as_tensor(widened(done))[window_ST[:, :-1]])
    told = judged(agent, windows_STK, actions_ST, steps)
    return [
        apart("frames and actions", told, told),
        apart("frames alone", told, judged(agent, windows_STK, None, steps)),
        apart("nothing", told, judged(agent, windows_STK, None, 0)),
    ]


def data_of(artefact: Artefact) -> tuple[Ref, int]:
    """The trajectories that an agent learned from, and how many episodes were held out."""
    parents = [Ref.parse(parent.ref) for parent in artefact.manifest.parents]
    stored = [ref for ref in parents if ref.stage == "trajectories"]
    if not stored:
        raise UsageError(f"{artefact.ref} did not learn from stored trajectories: give an agent of 'rem_freeway'")
    return stored[0], int(artefact.manifest.config["loop"]["holdout_episodes"])


def main(names: Sequence[str]) -> None:
    """Print the rows of every agent that is named."""
    store = Store(home.home() / "store")
    for name in names:
        artefact = store.open(Ref.parse(name))
        agent = load_agent(artefact, Device("cpu", bf16=False))
        assert isinstance(agent, PracticeAgent)
        where, holdout = data_of(artefact)
        told = agent.config.actor_critic.burn_in_actions
        print(f"{name}, which learned with burn_in_actions={str(told).lower()}")
        for row in measure(agent, Trajectories(store.open(where).source(FILE_NAME)), holdout):
            print(f"  {row}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except WorldlineError as error:
        sys.exit(str(error))
