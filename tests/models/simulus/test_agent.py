"""The agent of Simulus: what learns from what, in every variant, that parts of a batch add up, and how it imagines."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.api import Acting, Batch, Context, Learning, Moment
from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from models.tokenizers.config import TokenizerWeights
from tests.models.practice.learning import LEGAL, OBJECTIVES, frames_of, gradients, segments
from tests.models.simulus.small_simulus import BURN_IN, CONFIG, STEPS, VARIANTS, actor, world


def learning_agent(config: SimulusConfig = CONFIG, **learning: Any) -> SimulusAgent:
    agent = SimulusAgent(config, seed=3)
    agent.start(Learning(7, LEGAL, **learning), OBJECTIVES)
    return agent


def batch_for(objective: str, config: SimulusConfig = CONFIG) -> Any:
    if objective == "world_model":
        return segments(steps=STEPS, side="right")
    batch = segments(steps=config.length("actor_critic") or 0)
    return batch if objective == "actor_critic" else frames_of(batch, -1)


def untouched(variant: str, objective: str) -> set[str]:
    """Parameters of a network that nothing asks for."""
    if objective == "world_model" and variant != "retnet":
        return {"world_model.embed_unused.weight", "world_model.head_unused.weight"}
    if objective == "actor_critic" and variant == "no action inputs":
        return {"actor_critic.actor.actions.weight"}
    return set()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_its_own_network_whole_and_no_other(variant: str, objective: str) -> None:
    agent = learning_agent(VARIANTS[variant])
    agent.config.require_fit(STEPS)
    for network in agent.networks.values():
        network.train()
    _, found = gradients(agent, objective, batch_for(objective, agent.config))
    whole = {f"{objective}.{name}" for name, _ in agent.networks[objective].named_parameters()}
    assert found.keys() == whole - untouched(variant, objective)
    assert all(bool(each.isfinite().all()) for each in found.values())
    assert all(network.training for network in agent.networks.values()), "modes are as they were"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_of_a_batch_add_up_to_the_whole_draws_and_members_included(objective: str) -> None:
    agent, batch = learning_agent(actor(return_buffer=0)), batch_for(objective)
    total, whole = gradients(agent, objective, batch)
    in_parts, split = gradients(agent, objective, batch, slice(0, 2), slice(2, 3), slice(3, 5))
    assert in_parts == pytest.approx(total, rel=1e-5)
    for name, gradient in whole.items():
        assert torch.allclose(split[name], gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_bfloat16_losses_are_float32_and_about_the_same(objective: str) -> None:
    agent, batch = learning_agent(actor(return_buffer=0)), batch_for(objective)
    plain = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    agent.start(Learning(7, LEGAL, lambda: torch.autocast("cpu", torch.bfloat16)), [objective])
    rounded = agent.loss(objective, batch, agent.counts(objective, batch), Moment(4, 0, 5)).total
    assert rounded.dtype == torch.float32 and bool(rounded.isfinite())
    if objective != "actor_critic":  # whose draws may fall otherwise
        assert rounded.item() == pytest.approx(plain.item(), rel=0.02)


def test_curiosity_ends_where_play_does() -> None:
    agent = learning_agent(plays_until=5)
    world_batch, practice = batch_for("world_model"), batch_for("actor_critic")
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
    agent, batch = learning_agent(), batch_for("actor_critic")
    scale = agent.actor_critic.return_scale
    assert scale is not None
    for expected in (15, 30):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(4, 0, 5))
        assert int(scale.seen) == expected
    agent.actor_critic.eval()
    agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(4, 0, 5))
    assert int(scale.seen) == 30


def test_an_action_that_a_game_does_not_have_is_never_imagined() -> None:
    agent, batch = learning_agent(), batch_for("actor_critic")
    batch = replace(batch, games_B=torch.ones_like(batch.games_B))
    _, found = gradients(agent, "actor_critic", batch)
    assert (found["actor_critic.actor_linear.bias"] != 0).tolist() == LEGAL[1].tolist()


def test_at_full_size_parameters_and_optimiser_groups_are_the_originals() -> None:
    full = SimulusAgent(SimulusConfig(actions=(0, 1, 2, 3)))
    full.config.require_fit(10)
    sizes = {name: sum(each.numel() for each in net.parameters()) for name, net in full.networks.items()}
    assert sizes == {"tokenizer": 5_467_654, "world_model": 10_146_179, "actor_critic": 4_639_045}
    assert sum(each.numel() for each in full.world_model.ensemble.parameters()) == 1_581_056
    kind, (decayed, plain) = full.optimiser("world_model", 2e-4, 0.05)
    assert kind is torch.optim.AdamW and (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert (len(decayed["params"]), sum(each.numel() for each in decayed["params"])) == (81, 10_096_640)
    assert (len(plain["params"]), sum(each.numel() for each in plain["params"])) == (83, 49_539)
    for name in ("tokenizer", "actor_critic"):
        _, (group,) = full.optimiser(name, 1e-4, 0.01)
        assert group["weight_decay"] == 0.01 and len(group["params"]) == len(list(full.networks[name].parameters()))
    assert full.imagined_steps == 9 and full.config.length("actor_critic") == 21


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_sees_decodes_probes_imagines_and_plays(variant: str) -> None:
    agent, batch = SimulusAgent(VARIANTS[variant], seed=3), segments(steps=STEPS, side="right")
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


def test_a_config_is_plain_data_and_comes_back() -> None:
    for config in (SimulusConfig(), *VARIANTS.values()):
        assert SimulusConfig.of(config.plain()) == config
    assert SimulusConfig().left_out and SimulusConfig().plain()["family"] == "simulus"
    assert SimulusConfig().whole_batches("actor_critic") and not SimulusConfig().whole_batches("tokenizer")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: world(width=24), "give heads of a multiple of 8 numbers"),
        (lambda: world(context=5), "leaves none of 5 blocks to learn"),
        (lambda: world(fastest=9.0, slowest=8.0), "give blocks in order"),
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


def test_what_may_change_while_it_learns_and_lengths_that_do_not_fit() -> None:
    agent = learning_agent()
    agent.reconfigure(curiosity=0.5, mse=2.0)
    assert (agent.config.actor_critic.curiosity, agent.config.weights.mse) == (0.5, 2.0)
    with pytest.raises(ValueError, match="no setting 'ensemble'"):
        agent.reconfigure(ensemble=0)
    batch: Batch = segments(steps=2)
    with pytest.raises(ValueError, match="Segments of 2 steps do not fit a burn-in of 3"):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(0))
