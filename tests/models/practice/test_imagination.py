"""One rollout of an actor in a world: what is asked of the world, and of the actor."""

import pytest
import torch
from torch import Tensor

from models.practice.actor_critic import Judgement, Memory
from models.practice.draws import Draw, likeliest
from models.practice.imagination import Rollout, imagine
from models.practice.world import Step


class Counting:
    """A world whose frames are numbers, 1 more a step; and which notes whether a next one was wanted."""

    def __init__(self) -> None:
        self.wanted: list[bool] = []

    def reset(self, tokens_NK: Tensor) -> None:
        """Nothing is known."""

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        self.wanted.append(observe)
        tokens_NK = torch.full((2, 1), 5 + len(self.wanted)) if observe else None
        return Step(actions_N.float(), actions_N == 9, tokens_NK)


class Told:
    """An actor that does what its memory says, which is the last action and 1."""

    def __call__(self, seen_NX: Tensor, memory: Memory) -> Judgement:
        logits_NA = torch.nn.functional.one_hot(memory[0], 4).float()
        return Judgement(logits_NA, seen_NX[:, 0, 0, 0].float(), memory)

    def told(self, actions_N: Tensor, memory: Memory) -> Memory:
        return Memory((actions_N + 1,))


def rollout(world: Counting, beyond: bool, legal_NA: Tensor | None = None) -> Rollout:
    start_NK, memory = torch.full((2, 1), 5), Memory((torch.zeros(2, dtype=torch.long),))
    return imagine(Told(), world, lambda each: each[..., None, None], start_NK, memory, 3, likeliest, legal_NA, beyond)


@pytest.mark.parametrize("beyond", [False, True])
def test_what_the_last_step_led_to_is_made_where_it_is_wanted(beyond: bool) -> None:
    world = Counting()
    found = rollout(world, beyond)
    assert world.wanted == [True, True, beyond]
    assert found.values_NH.tolist() == [[5, 6, 7]] * 2 and found.actions_NH.tolist() == [[0, 1, 2]] * 2
    assert found.rewards_NH.tolist() == [[0, 1, 2]] * 2 and found.memory[0].tolist() == [3, 3]
    assert found.critic_NHZ is None
    assert (None if found.last_NCHW is None else found.last_NCHW.flatten().tolist()) == ([8, 8] if beyond else None)


def test_what_is_not_legal_is_not_done() -> None:
    found = rollout(Counting(), False, torch.tensor([[False, True, True, True]] * 2))
    assert found.actions_NH.tolist() == [[1, 2, 3]] * 2
