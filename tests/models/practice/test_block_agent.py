"""Agents of blocks: what learns from what, in every variant, that parts of a batch add up, what they forget and say."""

import pytest
import torch

from models.api import Acting, Batch, Context, Moment
from models.practice.draws import likeliest
from tests.models.practice.block_agents import ACTIONS, BURN_IN, KINDS, STEPS, TOKENS, VARIANTS, K, batch_for
from tests.models.practice.learning import (
    LEGAL,
    OBJECTIVES,
    require_alike_in_bfloat16,
    require_legal_imagination,
    require_own_network,
    require_parts_add_up,
    segments,
)

OURS_ALONE = {"embedding.step", "return_scale.returns", "return_scale.seen"}  # what no original's checkpoint has
in_every_variant = pytest.mark.parametrize(("name", "variant"), VARIANTS)
of_each = pytest.mark.parametrize("name", KINDS)


# ---- learning ----


@in_every_variant
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_its_own_network_whole_and_no_other(name: str, variant: str, objective: str) -> None:
    kind = KINDS[name]
    agent = kind.learning(kind.variants[variant])
    agent.config.require_fit(STEPS)
    untouched = [each for each in kind.untouched.get(variant, ()) if each.startswith(f"{objective}.")]
    require_own_network(agent, objective, batch_for(objective, agent.config), untouched)


@of_each
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_of_a_batch_add_up_to_the_whole_draws_and_members_included(name: str, objective: str) -> None:
    agent = KINDS[name].learning(KINDS[name].adds_up)
    require_parts_add_up(agent, objective, batch_for(objective, agent.config), atol=1e-5)


@of_each
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_bfloat16_losses_are_float32_and_about_the_same(name: str, objective: str) -> None:
    agent = KINDS[name].learning(KINDS[name].adds_up)
    require_alike_in_bfloat16(agent, objective, batch_for(objective, agent.config))


@of_each
def test_an_action_that_a_game_does_not_have_is_never_imagined(name: str) -> None:
    agent = KINDS[name].learning(KINDS[name].variants[name])
    require_legal_imagination(agent, batch_for("actor_critic", agent.config))


@pytest.mark.parametrize(
    ("name", "decayed", "plain"),
    [("rem", (41, 4_588_800), (63, 168_197)), ("simulus", (81, 10_096_640), (83, 49_539))],
)
def test_weights_of_the_world_model_decay_and_everything_of_the_others(
    name: str, decayed: tuple[int, int], plain: tuple[int, int]
) -> None:
    new = KINDS[name].agent
    full = new(type(KINDS[name].adds_up)(actions=(0, 1, 2, 3)))
    kind, groups = full.optimiser("world_model", 2e-4, 0.05)
    assert kind is torch.optim.AdamW and [group["weight_decay"] for group in groups] == [0.05, 0.0]
    sizes = [(len(group["params"]), sum(each.numel() for each in group["params"])) for group in groups]
    assert sizes == [decayed, plain]
    for network in ("tokenizer", "actor_critic"):
        kind, (group,) = full.optimiser(network, 1e-4, 0.01)
        assert kind is torch.optim.AdamW and group["weight_decay"] == 0.01
        assert len(group["params"]) == len(list(full.networks[network].parameters()))


@of_each
def test_lengths_that_do_not_fit_are_refused(name: str) -> None:
    agent = KINDS[name].learning(KINDS[name].variants[name])
    batch: Batch = segments(steps=2)
    with pytest.raises(ValueError, match=f"Segments of 2 steps do not fit a burn-in of {BURN_IN}: give one more"):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(0))


# ---- seeing, imagining and playing ----


@in_every_variant
def test_it_sees_decodes_probes_imagines_and_plays(name: str, variant: str) -> None:
    agent = KINDS[name].agent(KINDS[name].variants[variant], seed=3)
    batch = segments(steps=STEPS, side="right")
    assert batch.frames_BTCHW is not None
    tokens_BTK = agent.encode(batch.frames_BTCHW)
    assert tokens_BTK.shape == (5, STEPS, K) and agent.decode(tokens_BTK).shape == batch.frames_BTCHW.shape
    assert agent.probe().keys() == agent.networks.keys()
    for dream in (agent.world(), agent.dream(seed=1)):
        dream.reset(Context(tokens_BTK[:, :2], batch.actions_BT[:, :1], torch.zeros(5, dtype=torch.long)))
        for step in range(STEPS):
            here = dream.step(batch.actions_BT[:, step])
        assert here.tokens_NK.shape == (5, K) and dream.remembered.most == STEPS
    policy = agent.policy(Acting(torch.zeros(5).long(), LEGAL[batch.games_B], epsilon=0.3, temperature=1.0))
    for step in range(3):
        actions_N = policy.act(batch.frames_BTCHW[:, step], range(5))
        assert bool(LEGAL[batch.games_B, actions_N].all())
    assert policy.act_on_tokens(tokens_BTK[:, 0], range(5)).shape == (5,)


@of_each
def test_what_would_leave_the_blocks_it_learned_with_is_forgotten_but_for_the_context(name: str) -> None:
    agent = KINDS[name].agent(KINDS[name].variants[name], seed=1)
    agent.world_model.eval()
    player, told = agent.player(), []
    player.follow(TOKENS[:, :2], ACTIONS[:, :1])
    frames = [*TOKENS[:, :2].unbind(1)]
    for step in range(5):
        found = player.step(ACTIONS[:, step % STEPS], likeliest)
        assert found.tokens_NK is not None
        frames.append(found.tokens_NK)
        told.append((player.remembered.steps, player.remembered.forgot))
    assert told == [(3, ""), (4, ""), (5, ""), (3, "flush"), (4, "")]
    again = agent.player()
    again.follow(torch.stack(frames[3:5], dim=1), ACTIONS[:, 2:3])
    assert torch.equal(again.step(ACTIONS[:, 3], likeliest).tokens_NK, frames[5])
    many = agent.player()  # of a long context the newest frames that leave room for a step
    many.follow(TOKENS, ACTIONS[:, :-1])
    many.step(ACTIONS[:, -1], likeliest)
    assert (many.remembered.steps, many.remembered.most, many.remembered.forgot) == (STEPS, STEPS, "")


@of_each
def test_what_cannot_be_played_is_refused(name: str) -> None:
    player = KINDS[name].agent(KINDS[name].variants[name]).player()
    with pytest.raises(ValueError, match="no rows yet: reset it first"):
        player.step(ACTIONS[:, 0], likeliest)
    with pytest.raises(ValueError, match=r"Tokens \(3, 1, 9\) are no frames of 16 tokens"):
        player.reset(TOKENS[:, 0, :9])


# ---- what is written down ----


@of_each
def test_a_config_is_plain_data_and_comes_back(name: str) -> None:
    kind = type(KINDS[name].adds_up)
    for config in (kind(), *KINDS[name].variants.values()):
        assert kind.of(config.plain()) == config
    assert kind().left_out and kind().plain()["family"] == name


@in_every_variant
def test_the_seed_alone_decides_the_first_weights(name: str, variant: str) -> None:
    new, config = KINDS[name].agent, KINDS[name].variants[variant]
    torch.manual_seed(0)
    one = new(config, seed=1)
    torch.manual_seed(1)
    other = new(config, seed=1)
    for part, network in one.networks.items():
        state = other.networks[part].state_dict()
        assert all(torch.equal(each, state[key]) for key, each in network.state_dict().items())


@in_every_variant
def test_a_whole_checkpoint_is_read_back_bit_for_bit(name: str, variant: str) -> None:
    new, config = KINDS[name].agent, KINDS[name].variants[variant]
    one, other = new(config, seed=1), new(config, seed=2)
    if variant == "attention":  # which is REM's and not its original's
        with pytest.raises(ValueError, match="attention gives this agent weights that the original"):
            one.original_state_dict("world_model")
        return
    whole = {f"{part}.{key}": tensor for part in one.networks for key, tensor in one.original_state_dict(part).items()}
    whole[f"{KINDS[name].lpips}lin0.model.1.weight"] = torch.zeros(1, 64, 1, 1)
    for part, network in other.networks.items():
        other.load_original(part, whole)
        state = one.networks[part].state_dict()
        assert all(torch.equal(each, state[key]) for key, each in network.state_dict().items())
        found = other.original_weights(part, whole)
        assert not any("lpips" in key for key in found)
        assert other.original.own(found).keys() == state.keys() - OURS_ALONE
