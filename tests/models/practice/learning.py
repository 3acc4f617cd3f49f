"""What tests of families need whose actor-critic practises in a world model: segments, gradients, what losses keep."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.api import Batch, FrameBatch, Learning, Moment, rows_of
from models.practice.agent import PracticeAgent

ACTIONS, SIDE = 5, 32  # of segments
LEGAL = torch.tensor([[True] * ACTIONS, [True, False, True, False, False]])  # in both of their games
# Of a tokenizer that learns in no time.
SMALL_SIZES = {"embed_dim": 16, "z_channels": 16, "channels": 4, "norm_groups": 2, "resolution": SIDE}
OBJECTIVES = ("tokenizer", "world_model", "actor_critic")


def segments(rows: int = 5, steps: int = 3, side: str = "left") -> Batch:
    """Random ones, the second of which is a step short on one side."""
    draws = torch.Generator().manual_seed(1)
    mask_BT = torch.ones(rows, steps, dtype=torch.bool)
    mask_BT[1, 0 if side == "left" else -1] = False
    return Batch(
        actions_BT=torch.randint(ACTIONS, (rows, steps), generator=draws),
        rewards_BT=torch.randint(-9, 9, (rows, steps), generator=draws).float(),
        ends_BT=torch.zeros(rows, steps),
        mask_BT=mask_BT,
        games_B=torch.arange(rows) % 2,
        frames_BTCHW=torch.randint(0, 256, (rows, steps, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws),
    )


def frames_of(batch: Batch, step: int) -> FrameBatch:
    """The frames of one step of segments."""
    assert batch.frames_BTCHW is not None
    return FrameBatch(frames_nCHW=batch.frames_BTCHW[:, step], games_n=torch.zeros(len(batch.games_B)).long())


def gradients(agent: PracticeAgent, objective: str, batch: Any, *parts: slice) -> tuple[float, dict[str, Tensor]]:
    """The loss, and by parameter its gradient, of a batch taken in parts."""
    rows, total = len(batch.games_n if isinstance(batch, FrameBatch) else batch.games_B), 0.0
    counts = agent.counts(objective, batch)
    for network in agent.networks.values():
        network.zero_grad(set_to_none=True)
    for part in parts or (slice(0, rows),):
        losses = agent.loss(objective, rows_of(batch, part), counts, Moment(4, part.start, rows))
        losses.total.backward()
        total += losses.total.item()
    named = ((f"{name}.{key}", each) for name, net in agent.networks.items() for key, each in net.named_parameters())
    return total, {name: each.grad.clone() for name, each in named if each.grad is not None}


def require_own_network(agent: PracticeAgent, objective: str, batch: Any, untouched: Collection[str] = ()) -> None:
    """An objective trains its network whole, but for parameters that nothing asks for, and no other."""
    for network in agent.networks.values():
        network.train()
    _, found = gradients(agent, objective, batch)
    whole = {f"{objective}.{name}" for name, _ in agent.networks[objective].named_parameters()}
    assert found.keys() == whole - {*untouched}
    assert all(bool(each.isfinite().all()) for each in found.values())
    assert all(network.training for network in agent.networks.values()), "modes are as they were"


def require_parts_add_up(agent: PracticeAgent, objective: str, batch: Any, atol: float) -> None:
    """The loss of a batch of five rows, and its gradients, are the sums of its parts'."""
    total, whole = gradients(agent, objective, batch)
    in_parts, split = gradients(agent, objective, batch, slice(0, 2), slice(2, 3), slice(3, 5))
    assert in_parts == pytest.approx(total, rel=1e-5)
    for name, gradient in whole.items():
        assert torch.allclose(split[name], gradient, rtol=1e-3, atol=atol), name


def require_alike_in_bfloat16(agent: PracticeAgent, objective: str, batch: Any) -> None:
    """In bfloat16 the loss is float32, another, and about the same."""
    plain = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    agent.start(Learning(7, LEGAL, lambda: torch.autocast("cpu", torch.bfloat16)), [objective])
    rounded = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    assert rounded.dtype == torch.float32 and rounded.item() != plain.item()
    assert bool(rounded.isfinite())
    if objective != "actor_critic":  # whose draws may fall otherwise
        assert rounded.item() == pytest.approx(plain.item(), rel=0.02)


def require_legal_imagination(agent: PracticeAgent, batch: Batch) -> None:
    """Logits of actions that a game does not have get no gradient, where all rows are of the game with two."""
    _, found = gradients(agent, "actor_critic", replace(batch, games_B=torch.ones_like(batch.games_B)))
    assert (found["actor_critic.actor_linear.bias"] != 0).tolist() == LEGAL[1].tolist()


def with_part(config: Any, part: str, **changes: Any) -> Any:
    """A config with other numbers of a part."""
    return replace(config, **{part: replace(getattr(config, part), **changes)})
