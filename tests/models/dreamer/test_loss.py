from dataclasses import replace

import pytest
import torch

from models.dreamer.config import DreamerConfig, Faults, WeightsConfig
from models.dreamer.loss import world_loss
from models.dreamer.world_model import WorldModel, centred
from tests.models.dreamer.small_dreamer import CONFIGS, STEPS, draws, segments

TERMS = {
    "dreamerv2": {"kl", "image", "reward"},
    "apv_pretrain": {"kl", "image"},
    "apv": {"kl", "first_kl", "image", "reward", "aux_reward"},
    "naive": {"kl", "image", "reward"},
    "prelar_pretrain": {"kl", "latent_kl", "consistency", "image"},
    "prelar": {"kl", "image", "reward", "aux_reward"},
    "contextwm_pretrain": {"kl", "image"},
    "contextwm": {"kl", "first_kl", "image", "reward", "aux_reward"},
}


def gradients(world: WorldModel, config: DreamerConfig) -> dict[str, torch.Tensor | None]:
    world.zero_grad(set_to_none=True)
    world_loss(world, segments(), draws()).total(config).backward()
    return {name: each.grad for name, each in world.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_system_loses_its_terms_and_moves_all_of_its_weights(name: str) -> None:
    config = CONFIGS[name]
    world = WorldModel(config)
    lost = world_loss(world, segments(), draws())
    assert lost.terms.keys() == TERMS[name]
    parts = [getattr(config.weights, term) * value for term, value in lost.terms.items()]
    torch.testing.assert_close(lost.total(config), torch.stack(parts).sum())
    still = {each for each, gradient in gradients(world, config).items() if gradient is None}
    assert all(each.startswith("first.prior") for each in still)  # of weight 0 in fine-tuning
    assert bool(still) == config.stacked


def test_pictures_lose_half_of_their_squared_errors() -> None:
    """A number of the specification for 3 x 64 x 64 pixels, here of 3 x 16 x 16."""
    world = WorldModel(CONFIGS["apv_pretrain"]).eval()
    assert hasattr(world.decoder, "outward")
    torch.nn.init.zeros_(world.decoder.outward.weight)
    torch.nn.init.zeros_(world.decoder.outward.bias)
    batch = replace(segments(), frames_BTCRR=torch.full((3, STEPS, 3, 16, 16), 255, dtype=torch.uint8))
    assert float(centred(batch.frames_BTCRR).max()) == 0.5
    found = world_loss(world, batch, draws()).terms["image"]
    assert found.item() == pytest.approx(1536 * (16 / 64) ** 2)


def test_the_published_consistency_has_no_gradient_and_the_soft_one_has() -> None:
    found = {}
    for kind in ("none", "sign", "soft", "relative"):
        world = WorldModel(replace(CONFIGS["prelar_pretrain"], consistency=kind))
        found[kind] = gradients(world, world.config)
    for name, without in found["none"].items():
        assert without is not None and torch.equal(without, found["sign"][name]), name  # type: ignore[arg-type]
    differ = {name for name, each in found["soft"].items() if not torch.equal(each, found["none"][name])}  # type: ignore[arg-type]
    assert differ and all(name.startswith("latent_action.") for name in differ)
    assert any(not torch.equal(each, found["relative"][name]) for name, each in found["soft"].items())  # type: ignore[arg-type]
    only = replace(CONFIGS["prelar_pretrain"], weights=WeightsConfig(0, 0, 0, 0, 0, 0, 0, consistency=1.0))
    alone = gradients(WorldModel(only), only)
    assert all(alone[name] is not None and float(alone[name].abs().sum()) > 0 for name in differ)  # type: ignore[union-attr]


def test_consistency_needs_another_segment() -> None:
    with pytest.raises(ValueError, match="a batch of two or more"):
        world_loss(
            WorldModel(CONFIGS["prelar_pretrain"]),
            segments(rows=2, steps=4).__class__(segments().frames_BTCRR[:1], segments().first_BT[:1]),
            draws(),
        )


def test_an_exchanged_action_is_not_read_where_a_sequence_begins_anew() -> None:
    config, batch = replace(CONFIGS["prelar_pretrain"], consistency="sign"), segments()
    compared = []
    for faults in (Faults(), Faults(unmasked_exchange=True)):
        found = world_loss(WorldModel(replace(config, faults=faults)).eval(), batch, draws()).compared
        assert found is not None
        compared.append(found[0].view(3, STEPS - 1))
    assert float(compared[0][1, 2]) == pytest.approx(0, abs=1e-6) and float(compared[1][1, 2]) > 1e-6
    assert torch.equal(compared[0][0], compared[1][0])


def test_the_prior_of_latent_actions_is_standard_unless_it_is_the_originals() -> None:
    config = CONFIGS["prelar_pretrain"]
    ours, theirs = (
        world_loss(WorldModel(replace(config, faults=Faults(wide_prior=wide))).eval(), segments(), draws())
        for wide in (False, True)
    )
    assert ours.observed.latent_stats is not None
    mean, std = ours.observed.latent_stats.unbind(-2)
    expected = 0.5 * (std.square() + mean.square() - 1 - 2 * std.log()).sum(-1).mean()
    torch.testing.assert_close(ours.terms["latent_kl"], expected)
    assert not torch.equal(ours.terms["latent_kl"], theirs.terms["latent_kl"])


def test_a_weightless_term_is_left_out_unless_it_is_kept() -> None:
    for keeps in (False, True):
        config = replace(CONFIGS["apv"], faults=Faults(weightless_terms=keeps))
        found = gradients(WorldModel(config), config)
        gradient = found["first.prior_head.weight"]
        assert (gradient is not None and bool((gradient == 0).all())) if keeps else gradient is None


def test_the_bonus_is_learned_by_one_head_and_plain_rewards_by_the_other() -> None:
    world, batch = WorldModel(CONFIGS["prelar"]).eval(), segments()
    lost = world_loss(world, batch, draws())
    assert lost.paid is not None and lost.reward_targets is not None and batch.rewards_BT is not None
    stretches = STEPS - world.config.bonus.window + 1
    torch.testing.assert_close(lost.reward_targets, batch.rewards_BT[:, :stretches] + lost.paid.bonus_BM)
    assert lost.log_chances["reward"].shape == (3, stretches)
    assert world.aux_reward is not None
    errors = world.aux_reward(lost.observed.posterior.feature) - batch.rewards_BT
    torch.testing.assert_close(lost.terms["aux_reward"], 0.5 * errors.square().mean())


def test_rewards_are_bent_and_ends_are_learned() -> None:
    config = replace(CONFIGS["dreamerv2"], rewards="tanh", reward_unit=2.0, ends=True)
    world, batch = WorldModel(config), segments()
    lost = world_loss(world, batch, draws())
    assert lost.reward_targets is not None and batch.rewards_BT is not None
    torch.testing.assert_close(lost.reward_targets, torch.tanh(batch.rewards_BT / 2))
    assert "discount" in lost.terms and world.discount is not None
    for lacking, words in (({"ends_BT": None}, "without ends"), ({"rewards_BT": None}, "without rewards")):
        with pytest.raises(ValueError, match=words):
            world_loss(world, replace(batch, **lacking), draws())
