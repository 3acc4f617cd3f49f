"""The agent of Simulus: its curiosity, where it begins to imagine, what it remembers and refuses.

See `practice/test_block_agent.py` too.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.api import Learning, Moment
from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from models.tokenizers.config import TokenizerWeights
from tests.models.practice.block_agents import batch_for
from tests.models.practice.learning import LEGAL, OBJECTIVES
from tests.models.simulus.small_simulus import BURN_IN, CONFIG, STEPS, VARIANTS, actor, world


def learning_agent(config: SimulusConfig = CONFIG, **learning: Any) -> SimulusAgent:
    agent = SimulusAgent(config, seed=3)
    agent.start(Learning(7, LEGAL, **learning), OBJECTIVES)
    return agent


def test_curiosity_ends_where_play_does() -> None:
    agent = learning_agent(plays_until=5)
    world_batch, practice = batch_for("world_model", CONFIG), batch_for("actor_critic", CONFIG)
    learned, paid = [], []
    for step in (4, 5):
        moment = Moment(step, 0, 5)
        learned.append(agent.loss("world_model", world_batch, agent.counts("world_model", world_batch), moment))
        agent.loss("actor_critic", practice, agent.counts("actor_critic", practice), moment)
        paid.append(agent._player.worth)
    assert ("curiosity" in learned[0].terms, "curiosity" in learned[1].terms) == (True, False)
    assert paid == [(1.0, 1.0), None]
    assert learning_agent(world(ensemble=0))._player.worth is None


def test_a_rollout_begins_where_the_context_ends_or_a_frame_later_as_in_the_original() -> None:
    for config, last in ((CONFIG, -1), (VARIANTS["misaligned"], -2)):
        agent, batch = learning_agent(config), batch_for("actor_critic", config)
        steps = config.length("actor_critic") or 0
        assert steps == (BURN_IN + 1 if last == -1 else BURN_IN + 2) == batch.mask_BT.shape[1]
        player, tokens_NTK, _ = agent.beginning(batch, Moment(0))
        assert player is agent._player
        frames = tokens_NTK[:, steps + last - 1 : steps + last + 1]
        between = batch.actions_BT[:, steps + last - 1 : steps + last]
        again = agent.player()
        again.follow(frames, between)
        assert torch.equal(again.waiting_NLD, agent._player.waiting_NLD)


def test_returns_are_remembered_while_it_learns_and_only_then() -> None:
    agent, batch = learning_agent(), batch_for("actor_critic", CONFIG)
    scale = agent.actor_critic.return_scale
    assert scale is not None
    for expected in (15, 30):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(4, 0, 5))
        assert int(scale.seen) == expected
    agent.actor_critic.eval()
    agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(4, 0, 5))
    assert int(scale.seen) == 30


def test_at_full_size_parameters_are_the_originals() -> None:
    full = SimulusAgent(SimulusConfig(actions=(0, 1, 2, 3)))
    full.config.require_fit(10)
    sizes = {name: sum(each.numel() for each in net.parameters()) for name, net in full.networks.items()}
    assert sizes == {"tokenizer": 5_467_654, "world_model": 10_146_179, "actor_critic": 4_639_045}
    assert sum(each.numel() for each in full.world_model.ensemble.parameters()) == 1_581_056
    assert full.imagined_steps == 9 and full.config.length("actor_critic") == 21


def test_batches_of_which_an_actor_remembers_returns_are_whole() -> None:
    assert SimulusConfig().whole_batches("actor_critic") and not SimulusConfig().whole_batches("tokenizer")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: world(width=24), "give heads of a multiple of 8 numbers"),
        (lambda: world(context=5), "leaves none of 5 blocks to learn"),
        (lambda: world(backbone="retnet", fastest=9.0, slowest=8.0), "give blocks in order"),
        (
            lambda: world(fastest=9.0),
            "fastest 9.0 has no effect on .* 'attention': set world_model.backbone=retnet, or",
        ),
        (lambda: world(slowest=9.0), "slowest 9.0 has no effect"),
        (lambda: world(blocks_per_chunk=2), "blocks_per_chunk 2 has no effect .* or leave it 5"),
        (lambda: actor(action_inputs=False, burn_in_actions=False), "burn_in_actions False has no effect on an actor"),
        (lambda: world(reward_bins=1), "says nothing: give 2 or more"),
        (lambda: actor(mlp=()), "give a layer or more"),
        (lambda: actor(horizon=6).require_fit(STEPS), r"in world_model\.max_steps 5: give 3 to 5"),
        (lambda: actor(layers=5).require_fit(STEPS), "embed_dim 16 cannot be halved 5 times"),
        (lambda: actor(aligned=False, burn_in=0).require_fit(STEPS), "set actor_critic.burn_in to 1 or more"),
        (lambda: actor(num_actions=4).require_fit(STEPS), "they must be equal"),
        (
            lambda: replace(CONFIG, weights=TokenizerWeights(l1=0.0, mse=1.0)).require_fit(STEPS),
            "FSQ has none to learn: set it to 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_what_may_change_while_it_learns() -> None:
    agent = learning_agent()
    agent.reconfigure(curiosity=0.5, mse=2.0)
    assert (agent.config.actor_critic.curiosity, agent.config.weights.mse) == (0.5, 2.0)
    with pytest.raises(ValueError, match="no setting 'ensemble'"):
        agent.reconfigure(ensemble=0)
