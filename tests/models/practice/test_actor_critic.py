"""IRIS's actor and critic: recorded numbers at full size, and the masked burn-in."""

import pytest
import torch

from models.iris.config import ActorCriticConfig
from models.practice.actor_critic import ActorCritic
from tests.models.iris import hashed
from tests.models.iris.hashed import FACTS, agrees

SMALL = ActorCriticConfig((4, 4), 8, num_actions=3, resolution=8, frame_channels=1)


def test_three_steps_from_nothing_are_the_recorded_ones() -> None:
    actor = hashed.actor_critic()
    memory = actor.fresh(2)
    with torch.no_grad():
        for frames_NCHW in hashed.frames()[:, :3].unbind(1):
            judged = actor(frames_NCHW.float() / 255, memory)
            memory = judged.memory
    assert torch.allclose(judged.logits_NA, torch.tensor(FACTS["ac_logits_t2"]), rtol=0, atol=2e-6)
    assert judged.values_N.tolist() == pytest.approx(FACTS["ac_values_t2"], abs=2e-6)
    assert agrees(memory.hidden, FACTS["ac_hx"])


def test_padding_leaves_a_rows_state_as_it_is() -> None:
    actor, frames = ActorCritic(SMALL, seed=1), torch.rand(2, 3, 1, 8, 8)
    mask = torch.tensor([[False, False, False], [False, True, True]])
    burnt = actor.burn_in(frames.unbind(1), mask)
    assert not burnt.hidden[0].any() and not burnt.cell[0].any()
    alone = actor.burn_in(frames[1:, 1:].unbind(1), mask[1:, 1:])
    assert torch.allclose(burnt.cell[1], alone.cell[0], atol=1e-6) and burnt.hidden[1].any()
    assert not burnt.hidden.requires_grad


def test_first_weights_depend_on_the_seed_alone() -> None:
    same, again, other = (ActorCritic(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(each, again[name]) for name, each in same.items())
    assert not torch.equal(same["lstm.weight_hh"], other["lstm.weight_hh"])
    assert float(same["lstm.bias_ih"].abs().max()) <= 8**-0.5 < 3 * float(same["lstm.bias_ih"].abs().max())
