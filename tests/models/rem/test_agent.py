"""The agent of REM: how it imagines, what it is told of and recalls; see `practice/test_block_agent.py` too."""

from dataclasses import replace

import pytest
import torch

from models.api import Acting, Learning, Moment, rows_of
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from tests.models.practice.learning import LEGAL, OBJECTIVES, segments
from tests.models.rem.small_rem import BURN_IN, CONFIG, STEPS, actor, world


def learning_agent(config: RemConfig = CONFIG) -> RemAgent:
    agent = RemAgent(config, seed=3)
    agent.start(Learning(7, LEGAL), OBJECTIVES)
    return agent


def test_imagination_repeats_for_a_step_differs_between_steps_and_reads_stored_tokens_alike() -> None:
    agent, batch = learning_agent(), segments(steps=BURN_IN + 1)
    counts = agent.counts("actor_critic", batch)
    first, again, later = (
        agent.loss("actor_critic", batch, counts, Moment(step, 0, 5)).total.item() for step in (4, 4, 5)
    )
    assert first == again != later
    assert batch.frames_BTCHW is not None
    stored = replace(batch, tokens_BTK=agent.encode(batch.frames_BTCHW), frames_BTCHW=None)
    assert agent.loss("actor_critic", stored, counts, Moment(4, 0, 5)).total.item() == first


def test_burn_in_is_told_of_actions_unless_it_is_to_forget_them_as_the_original_did() -> None:
    batch = segments(steps=BURN_IN + 1)
    other = replace(batch, actions_BT=batch.actions_BT.clone())
    other.actions_BT[:, 0] = (other.actions_BT[:, 0] + 1) % 5  # before the context
    for config, same in ((CONFIG, False), (actor(burn_in_actions=False), True), (actor(action_inputs=False), True)):
        agent = learning_agent(config)
        losses = [
            agent.loss("actor_critic", each, agent.counts("actor_critic", each), Moment(4, 0, 5)).total.item()
            for each in (batch, other)
        ]
        assert (losses[0] == losses[1]) is same


def test_a_rollout_is_as_long_as_its_horizon_leaves_behind_the_context() -> None:
    assert RemConfig().imagined_steps == 9 and world(context=3).imagined_steps == 3
    assert RemConfig().length("actor_critic") == 21 and actor(burn_in=0).length("actor_critic") == 2
    assert RemConfig().length("world_model") == 10 and RemConfig().length("tokenizer") is None


def test_a_policy_is_told_of_what_was_done_and_recalls_it() -> None:
    agent, batch = RemAgent(CONFIG, seed=3), segments(steps=STEPS)
    assert batch.frames_BTCHW is not None
    played = agent.policy(Acting(torch.zeros(1).long(), LEGAL[:1], epsilon=1.0))
    played.begin([0], [5])
    done = [int(played.act(batch.frames_BTCHW[:1, step], [0])) for step in range(BURN_IN)]
    recalled, forgotten = (agent.policy(Acting(torch.zeros(1).long(), LEGAL[:1])) for _ in range(2))
    recalled.recall(0, batch.frames_BTCHW[0, :BURN_IN], torch.tensor(done))
    forgotten.recall(0, batch.frames_BTCHW[0, :BURN_IN], (torch.tensor(done) + 1) % 5)
    assert torch.allclose(played._memory.hidden, recalled._memory.hidden, atol=1e-6)
    assert not torch.allclose(played._memory.hidden, forgotten._memory.hidden, atol=1e-3)


def test_what_is_forgotten_in_burn_in_is_forgotten_when_it_recalls_whenever_that_was_set() -> None:
    batch = segments(steps=BURN_IN)
    assert batch.frames_BTCHW is not None
    frames_TCHW, actions_T = batch.frames_BTCHW[0], batch.actions_BT[0]
    told, forgetful, changed = (RemAgent(config, seed=3) for config in (CONFIG, actor(burn_in_actions=False), CONFIG))
    changed.reconfigure(burn_in_actions=False)
    found = {}
    for name, agent in (("told", told), ("forgetful", forgetful), ("changed", changed)):
        policy = agent.policy(Acting(torch.zeros(1).long(), LEGAL[:1]))
        policy.recall(0, frames_TCHW, actions_T)
        found[name] = policy._memory.hidden
        seen = agent.see(agent.encode(frames_TCHW))[:, None]
        learned = agent.actor_critic.burn_in(
            seen, torch.ones(1, BURN_IN).bool(), agent.told(rows_of(batch, slice(0, 1)))
        )
        assert torch.allclose(found[name], learned.hidden, atol=1e-6), "as in learning"
    assert torch.equal(found["forgetful"], found["changed"])
    assert not torch.allclose(found["told"], found["forgetful"], atol=1e-3)


def test_it_recalls_as_many_frames_as_its_config_says_now() -> None:
    batch = segments(steps=BURN_IN)
    assert batch.frames_BTCHW is not None
    long, short = RemAgent(CONFIG, seed=3), RemAgent(CONFIG, seed=3)
    short.reconfigure(burn_in=1)
    policies = [agent.policy(Acting(torch.zeros(1).long(), LEGAL[:1])) for agent in (long, short)]
    policies[0].recall(0, batch.frames_BTCHW[0, -1:], batch.actions_BT[0, -1:])
    policies[1].recall(0, batch.frames_BTCHW[0], batch.actions_BT[0])
    assert torch.equal(policies[0]._memory.hidden, policies[1]._memory.hidden)


def test_what_may_change_while_it_learns() -> None:
    agent = learning_agent()
    agent.reconfigure(burn_in_actions=False, entropy=0.5, mse=2.0)
    assert (agent.config.actor_critic.entropy, agent.config.weights.mse) == (0.5, 2.0)
    with pytest.raises(ValueError, match="no setting 'pop'"):
        agent.reconfigure(pop=False)
