"""REM's actor-critic on codes: its sizes, and that it is told of actions."""

import pytest
import torch

from models.practice.actor_critic import ActorCritic
from models.rem.actor_critic import LatentActorCritic, new_actor
from models.rem.config import RemActorConfig, RemConfig
from tests.models.rem.small_rem import CONFIG, PIXELS, actor

SEEN = torch.rand(2, 3, 16, 4, 4)
ACTIONS = torch.tensor([[1, 2, 0], [4, 4, 3]])
ALL = torch.ones(2, 3).bool()


def test_at_full_size_it_has_the_originals_parameters() -> None:
    config = RemConfig(actions=(0, 1, 2, 3))
    found = new_actor(config.actor_critic, config.tokenizer)
    assert sum(each.numel() for each in found.parameters()) == 4_572_357
    assert isinstance(new_actor(PIXELS.actor_critic, PIXELS.tokenizer), ActorCritic)


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
def test_burn_in_is_the_steps_one_after_another_with_their_actions(rnn: str) -> None:
    network = LatentActorCritic(actor(rnn=rnn).actor_critic, CONFIG.tokenizer, seed=1)
    memory = network.fresh(2)
    with torch.no_grad():
        for step in range(3):
            memory = network.told(ACTIONS[:, step], network(SEEN[:, step], memory).memory)
    burnt = network.burn_in(SEEN.unbind(1), ALL, ACTIONS)
    assert len(burnt) == (2 if rnn == "lstm" else 1) and torch.equal(burnt.hidden, memory.hidden)
    assert not torch.allclose(burnt.hidden, network.burn_in(SEEN.unbind(1), ALL).hidden, atol=1e-3)
    padded = network.burn_in(SEEN.unbind(1), ALL & torch.tensor([[False, True, True]]), ACTIONS)
    later = network.burn_in(SEEN[:, 1:].unbind(1), ALL[:, 1:], ACTIONS[:, 1:])
    assert torch.allclose(padded.hidden, later.hidden)


def test_without_action_inputs_it_is_told_of_nothing() -> None:
    network = LatentActorCritic(actor(action_inputs=False).actor_critic, CONFIG.tokenizer, seed=1)
    memory = network(SEEN[:, 0], network.fresh(2)).memory
    assert network.told(ACTIONS[:, 0], memory) is memory


def test_what_an_actor_on_pixels_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an LSTM that is told of no actions: set actor_critic\.rnn=lstm"):
        RemActorConfig(kind="pixels")
    with pytest.raises(ValueError, match="cannot be halved 7 times"):
        RemActorConfig(kind="pixels", action_inputs=False, channels=(4,) * 7)
    for fields, words in (
        ({"action_inputs": False, "burn_in_actions": False}, "set actor_critic.action_inputs=true, or leave it True"),
        ({"channels": (8, 8)}, "actor_critic.channels 8,8 has no effect on codes: set actor_critic.kind=pixels"),
        ({"kind": "pixels", "action_inputs": False, "layers": 3}, "layers 3 has no effect on pixels: .* leave it 2"),
    ):
        with pytest.raises(ValueError, match=words):
            RemActorConfig(**fields)
