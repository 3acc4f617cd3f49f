"""The agent of REM: what learns from what, in every variant, that parts of a batch add up, and how it imagines."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.api import Acting, Batch, Context, Learning, Moment, rows_of
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from tests.models.practice.learning import LEGAL, OBJECTIVES, frames_of, gradients, segments
from tests.models.rem.small_rem import BURN_IN, CONFIG, STEPS, VARIANTS, actor, world


def learning_agent(config: RemConfig = CONFIG) -> RemAgent:
    agent = RemAgent(config, seed=3)
    agent.start(Learning(7, LEGAL), OBJECTIVES)
    return agent


def batch_for(objective: str) -> Any:
    if objective == "world_model":
        return segments(steps=STEPS, side="right")
    batch = segments(steps=BURN_IN + 1)
    return batch if objective == "actor_critic" else frames_of(batch, -1)


UNTOUCHED = {  # by variant, parameters that nothing asks for
    "no pop": {"world_model.placeholder_embeddings.weight"},
    "no action inputs": {"actor_critic.actions_embeddings.weight"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_its_own_network_whole_and_no_other(variant: str, objective: str) -> None:
    agent = learning_agent(VARIANTS[variant])
    agent.config.require_fit(STEPS)
    for network in agent.networks.values():
        network.train()
    _, found = gradients(agent, objective, batch_for(objective))
    whole = {f"{objective}.{name}" for name, _ in agent.networks[objective].named_parameters()}
    assert found.keys() == whole - UNTOUCHED.get(variant, set())
    assert all(bool(each.isfinite().all()) for each in found.values())
    assert all(network.training for network in agent.networks.values()), "modes are as they were"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_of_a_batch_add_up_to_the_whole_draws_included(objective: str) -> None:
    agent, batch = learning_agent(), batch_for(objective)
    total, whole = gradients(agent, objective, batch)
    in_parts, split = gradients(agent, objective, batch, slice(0, 2), slice(2, 3), slice(3, 5))
    assert in_parts == pytest.approx(total, rel=1e-5)
    for name, gradient in whole.items():
        assert torch.allclose(split[name], gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_bfloat16_losses_are_float32_and_about_the_same(objective: str) -> None:
    agent, batch = learning_agent(), batch_for(objective)
    plain = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    agent.start(Learning(7, LEGAL, lambda: torch.autocast("cpu", torch.bfloat16)), [objective])
    rounded = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    assert rounded.dtype == torch.float32 and bool(rounded.isfinite())
    if objective != "actor_critic":  # whose draws may fall otherwise
        assert rounded.item() == pytest.approx(plain.item(), rel=0.02)


def test_imagination_repeats_for_a_step_differs_between_steps_and_reads_stored_tokens_alike() -> None:
    agent, batch = learning_agent(), batch_for("actor_critic")
    counts = agent.counts("actor_critic", batch)
    first, again, later = (
        agent.loss("actor_critic", batch, counts, Moment(step, 0, 5)).total.item() for step in (4, 4, 5)
    )
    assert first == again != later
    assert batch.frames_BTCHW is not None
    stored = replace(batch, tokens_BTK=agent.encode(batch.frames_BTCHW), frames_BTCHW=None)
    assert agent.loss("actor_critic", stored, counts, Moment(4, 0, 5)).total.item() == first


def test_burn_in_is_told_of_actions_unless_it_is_to_forget_them_as_the_original_did() -> None:
    batch = batch_for("actor_critic")
    other = replace(batch, actions_BT=batch.actions_BT.clone())
    other.actions_BT[:, 0] = (other.actions_BT[:, 0] + 1) % 5  # before the context
    for config, same in ((CONFIG, False), (actor(burn_in_actions=False), True), (actor(action_inputs=False), True)):
        agent = learning_agent(config)
        losses = [
            agent.loss("actor_critic", each, agent.counts("actor_critic", each), Moment(4, 0, 5)).total.item()
            for each in (batch, other)
        ]
        assert (losses[0] == losses[1]) is same


def test_an_action_that_a_game_does_not_have_is_never_imagined() -> None:
    agent, batch = learning_agent(), batch_for("actor_critic")
    batch = replace(batch, games_B=torch.ones_like(batch.games_B))
    _, found = gradients(agent, "actor_critic", batch)
    assert (found["actor_critic.actor_linear.bias"] != 0).tolist() == LEGAL[1].tolist()


def test_a_rollout_is_as_long_as_its_horizon_leaves_behind_the_context() -> None:
    assert RemConfig().imagined_steps == 9 and world(context=3).imagined_steps == 3
    assert RemConfig().length("actor_critic") == 21 and actor(burn_in=0).length("actor_critic") == 2
    assert RemConfig().length("world_model") == 10 and RemConfig().length("tokenizer") is None


def test_weights_of_the_world_model_decay_and_everything_of_the_others() -> None:
    full = RemAgent(RemConfig(actions=(0, 1, 2, 3)))
    kind, (decayed, plain) = full.optimiser("world_model", 2e-4, 0.05)
    assert kind is torch.optim.AdamW and (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert (len(decayed["params"]), sum(each.numel() for each in decayed["params"])) == (41, 4_588_800)
    assert (len(plain["params"]), sum(each.numel() for each in plain["params"])) == (63, 168_197)
    for name in ("tokenizer", "actor_critic"):
        kind, (group,) = full.optimiser(name, 1e-4, 0.01)
        assert kind is torch.optim.AdamW and group["weight_decay"] == 0.01
        assert len(group["params"]) == len(list(full.networks[name].parameters()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_sees_decodes_probes_imagines_and_plays(variant: str) -> None:
    agent, batch = RemAgent(VARIANTS[variant], seed=3), segments(steps=STEPS)
    assert batch.frames_BTCHW is not None
    tokens_BTK = agent.encode(batch.frames_BTCHW)
    assert tokens_BTK.shape == (5, STEPS, 16) and agent.decode(tokens_BTK).shape == batch.frames_BTCHW.shape
    assert agent.probe().keys() == agent.networks.keys()
    for dream in (agent.world(), agent.dream(seed=1)):
        dream.reset(Context(tokens_BTK[:, :2], batch.actions_BT[:, :1], torch.zeros(5, dtype=torch.long)))
        for step in range(STEPS):
            here = dream.step(batch.actions_BT[:, step])
        assert here.tokens_NK.shape == (5, 16) and dream.remembered.most == STEPS
    policy = agent.policy(Acting(torch.zeros(5).long(), LEGAL[batch.games_B], epsilon=0.3, temperature=1.0))
    for step in range(3):
        actions_N = policy.act(batch.frames_BTCHW[:, step], range(5))
        assert bool(LEGAL[batch.games_B, actions_N].all())
    assert policy.act_on_tokens(tokens_BTK[:, 0], range(5)).shape == (5,)


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


def test_a_config_is_plain_data_and_comes_back() -> None:
    for config in (RemConfig(), *VARIANTS.values()):
        assert RemConfig.of(config.plain()) == config
    assert RemConfig().left_out and RemConfig().plain()["family"] == "rem"


def test_what_may_change_while_it_learns_and_lengths_that_do_not_fit() -> None:
    agent = learning_agent()
    agent.reconfigure(burn_in_actions=False, entropy=0.5, mse=2.0)
    assert (agent.config.actor_critic.entropy, agent.config.weights.mse) == (0.5, 2.0)
    with pytest.raises(ValueError, match="no setting 'pop'"):
        agent.reconfigure(pop=False)
    batch: Batch = segments(steps=2)
    with pytest.raises(ValueError, match="Segments of 2 steps do not fit a burn-in of 3: give one more"):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(0))
