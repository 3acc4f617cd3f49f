"""The plug of IRIS: what learns from what, that parts of a batch add up, and what a config says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.api import Acting, Context, Learning, Moment
from models.iris.agent import IrisAgent
from models.iris.config import TOKENIZER, ActorCriticConfig, IrisConfig, WorldModelConfig
from models.registry import family_of
from models.tokenizers.config import TokenizerWeights
from tests.models.practice.learning import (
    LEGAL,
    OBJECTIVES,
    frames_of,
    gradients,
    require_alike_in_bfloat16,
    require_legal_imagination,
    require_own_network,
    require_parts_add_up,
    segments,
)

CONFIG = IrisConfig(
    frame=(32, 32, 3),
    tokenizer=replace(
        TOKENIZER, vocab_size=16, embed_dim=8, z_channels=8, channels=4, norm_groups=2, res_blocks=1, resolution=32
    ),
    world_model=WorldModelConfig(16, 4, 3, 1, 2, 16, 0.0, 5),
    actor_critic=ActorCriticConfig((4, 4), 8, num_actions=5, resolution=32, horizon=4, burn_in=2),
)


@pytest.fixture
def agent() -> IrisAgent:
    agent = IrisAgent(CONFIG, seed=3)
    agent.start(Learning(7, LEGAL), OBJECTIVES)
    return agent


def batch_for(objective: str) -> Any:
    return frames_of(segments(), 0) if objective == "tokenizer" else segments()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_its_own_network_whole_and_no_other(agent: IrisAgent, objective: str) -> None:
    require_own_network(agent, objective, batch_for(objective))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_of_a_batch_add_up_to_the_whole_draws_included(agent: IrisAgent, objective: str) -> None:
    require_parts_add_up(agent, objective, batch_for(objective), atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_in_bfloat16_losses_are_float32_and_about_the_same(agent: IrisAgent, objective: str) -> None:
    require_alike_in_bfloat16(agent, objective, batch_for(objective))


def test_imagination_repeats_for_a_step_and_differs_between_steps(agent: IrisAgent) -> None:
    batch = segments()
    counts = agent.counts("actor_critic", batch)
    first, again, later = (
        agent.loss("actor_critic", batch, counts, Moment(step, 0, 5)).total.item() for step in (4, 4, 5)
    )
    assert first == again != later


def test_frames_and_their_tokens_teach_alike(agent: IrisAgent) -> None:
    batch = segments()
    assert batch.frames_BTCHW is not None
    stored = replace(batch, tokens_BTK=agent.encode(batch.frames_BTCHW), frames_BTCHW=None)
    for objective in ("world_model", "actor_critic"):
        assert gradients(agent, objective, batch)[0] == gradients(agent, objective, stored)[0]


def test_an_action_that_a_game_does_not_have_is_never_imagined(agent: IrisAgent) -> None:
    require_legal_imagination(agent, segments())


def test_only_what_the_objectives_train_learns(agent: IrisAgent) -> None:
    agent.start(Learning(0, LEGAL), ["world_model"])
    learning = {name for name, net in agent.networks.items() for each in net.parameters() if each.requires_grad}
    assert learning == {"world_model"}


def test_linear_weights_of_the_world_model_decay_and_nothing_else(agent: IrisAgent) -> None:
    full = IrisAgent(IrisConfig(world_model=WorldModelConfig(num_actions=4)))
    kind, (decayed, plain) = full.optimiser("world_model", 1e-4, 0.01)
    assert kind is torch.optim.AdamW and (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert (len(decayed["params"]), sum(each.numel() for each in decayed["params"])) == (66, 8_193_280)
    assert (len(plain["params"]), sum(each.numel() for each in plain["params"])) == (111, 254_213)
    for name in ("tokenizer", "actor_critic"):
        kind, (group,) = agent.optimiser(name, 1e-4, 0.01)
        assert kind is torch.optim.Adam and "weight_decay" not in group
        assert len(group["params"]) == len(list(agent.networks[name].parameters()))


def test_a_config_is_plain_data_and_comes_back() -> None:
    config = replace(CONFIG, lpips_sha256="0" * 64, lpips_file="/somewhere/vgg.pt")
    plain = config.plain()
    assert plain["family"] == "iris" and "lpips_file" not in plain
    assert IrisConfig.of(plain) == replace(config, lpips_file="") and family_of(config).name == "iris"
    assert config.outside == {"lpips": ("/somewhere/vgg.pt", "0" * 64)} and CONFIG.outside == {}
    assert (config.length("world_model"), config.length("actor_critic"), config.length("tokenizer")) == (3, 3, None)
    assert config.takes.frame == (32, 32, 3) and config.takes.actions == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"world_model": replace(CONFIG.world_model, vocab_size=17)}, r"tokenizer\.vocab_size is 16 but world_model"),
        ({"world_model": replace(CONFIG.world_model, tokens_per_frame=5)}, "tokens is 4 but"),
        ({"actor_critic": replace(CONFIG.actor_critic, num_actions=6)}, r"num_actions is 5 but actor_critic"),
        ({"weights": TokenizerWeights(l1=0.0, commitment=0.0)}, "no term to learn from .* set weights.l1, or another"),
    ],
)
def test_networks_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    CONFIG.require_fit(3)
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes).require_fit(3)


def test_sizes_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"actor_critic\.channels is empty: give a convolution or more"):
        ActorCriticConfig(channels=())
    with pytest.raises(ValueError, match=r"sparsity 0\.05 is impossible: it must be from 0\.1 to 1"):
        WorldModelConfig(kind="ncp_tokens", sparsity=0.05)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WorldModelConfig(units=64), r"world_model\.units 64 has no effect on world_model\.kind 'transformer'"),
        (lambda: WorldModelConfig(wiring_seed=1), "set world_model.kind=ncp_tokens, or leave it 22222"),
        (lambda: WorldModelConfig(positions=False), "positions False has no effect .* set it to ncp_tokens"),
        (lambda: WorldModelConfig(kind="ncp_frames", units=9000, positions=False), "positions False has no effect"),
        (lambda: WorldModelConfig(kind="ncp_tokens", gelu="tanh"), "gelu tanh has no effect .* or leave it none"),
        (lambda: WorldModelConfig(kind="ncp_tokens", project_before=True), "project_before True has no effect"),
        (lambda: TokenizerWeights(commitment=0.0, codes=0.0), r"weights\.codes 0\.0 has no effect without commitment"),
        (lambda: TokenizerWeights(returns_scale=9.0), "returns_scale 9.0 has no effect without value: set weights.val"),
    ],
)
def test_what_would_have_no_effect_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_segment_of_another_length_than_the_burn_in_is_refused(agent: IrisAgent) -> None:
    batch = segments(steps=4)
    with pytest.raises(ValueError, match="Segments of 4 steps do not fit a burn-in of 2"):
        agent.loss("actor_critic", batch, agent.counts("actor_critic", batch), Moment(0))


def test_what_may_change_while_it_learns(agent: IrisAgent) -> None:
    agent.reconfigure(entropy=0.5, l1=2.0, value=0.25)
    assert (agent.config.actor_critic.entropy, agent.config.weights.l1) == (0.5, 2.0)
    assert (agent.config.actor_critic.value, agent.config.weights.value) == (0.25, 0.0)
    with pytest.raises(ValueError, match="no setting 'layers'"):
        agent.reconfigure(layers=2)


def test_it_encodes_decodes_probes_and_imagines(agent: IrisAgent) -> None:
    pictures_BTCHW = segments().frames_BTCHW
    assert pictures_BTCHW is not None
    tokens_BTK = agent.encode(pictures_BTCHW)
    assert tokens_BTK.shape == (5, 3, 4) and agent.decode(tokens_BTK).shape == (5, 3, 3, 32, 32)
    assert agent.probe().keys() == agent.networks.keys()
    world = agent.world()
    world.reset(Context(tokens_BTK, segments().actions_BT[:, :-1], torch.zeros(5, dtype=torch.long)))
    assert world.step(torch.zeros(5, dtype=torch.long)).tokens_NK.shape == (5, 4)
    policy = agent.policy(Acting(torch.tensor([0]), LEGAL[:1]))
    assert policy.act(pictures_BTCHW[:1, 0], [0]).shape == (1,)


def test_pixels_off_the_background_weigh_more_and_parts_add_up() -> None:
    agent = IrisAgent(replace(CONFIG, weights=TokenizerWeights(lpips=0, commitment=0, motion_gain=3.0)), seed=3)
    batch = frames_of(segments(), 0)
    background_CHW = batch.frames_nCHW.float().mean(0) / 255
    agent.start(Learning(7, LEGAL, mean_frames=lambda: {0: background_CHW}), ["tokenizer"])
    total, whole = gradients(agent, "tokenizer", batch)
    again, parts = gradients(agent, "tokenizer", batch, slice(0, 2), slice(2, 5))
    assert again == pytest.approx(total, rel=1e-5)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
    with torch.no_grad():
        x = batch.frames_nCHW.float() / 255
        error = 2 * (agent.tokenizer(x).frames - x).abs()
    off = (x - (background_CHW * 255).round() / 255).abs()
    weights = 1 + 3 * off / off.mean(dim=(1, 2, 3), keepdim=True)
    assert total == pytest.approx(float((weights * error).mean() / 4), rel=1e-5)


def test_without_stored_episodes_there_is_no_background_to_weigh_against() -> None:
    agent = IrisAgent(replace(CONFIG, weights=TokenizerWeights(motion_gain=1.0)))
    with pytest.raises(ValueError, match=r"weights\.motion_gain weighs pixels .*: set it to 0, or"):
        agent.start(Learning(7, LEGAL), ["tokenizer"])
    agent.start(Learning(7, LEGAL), ["world_model"])


def test_an_ema_codebook_follows_the_frames_of_all_processes() -> None:
    config = replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, quantizer="ema"))
    assert config.whole_batches("tokenizer") and not config.whole_batches("world_model")
    agents = [IrisAgent(config, seed=3) for _ in range(2)]
    agents[0].start(Learning(7, LEGAL), ["tokenizer"])
    agents[1].start(Learning(7, LEGAL, gather=lambda rows: torch.cat([rows, rows])), ["tokenizer"])
    for agent in agents:
        gradients(agent, "tokenizer", frames_of(segments(), 0))
    one, two = (agent.tokenizer.embedding.get_buffer("cluster_size") - 0.99 for agent in agents)
    assert float(one.sum()) > 0 and torch.allclose(2 * one, two, atol=1e-6)


def test_a_dream_draws_as_its_practice_does_unless_told(agent: IrisAgent) -> None:
    context = Context(torch.zeros(1, 1, 4).long(), torch.zeros(1, 0).long(), torch.zeros(1).long())

    def dreamt(*how: Any) -> list[list[int]]:
        dream = agent.dream(*how)
        dream.reset(context)
        return [dream.step(torch.tensor([step])).tokens_NK[0].tolist() for step in range(4)]

    assert dreamt(1) == dreamt(1, True) != dreamt(2)
    assert dreamt(1, False) == dreamt(2, False) != dreamt(1)
