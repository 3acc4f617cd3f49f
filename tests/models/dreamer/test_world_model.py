from dataclasses import replace

import pytest
import torch

from models.dreamer.config import DreamerConfig
from models.dreamer.systems import SYSTEMS
from models.dreamer.world_model import WorldModel
from tests.models.dreamer.small_dreamer import ACTIONS, CONFIGS, PRETRAINED, SMALL, draws, segments


@pytest.mark.parametrize("name", CONFIGS)
def test_playing_is_observing_step_by_step(name: str) -> None:
    world, batch = WorldModel(CONFIGS[name]).eval(), segments()
    assert batch.actions_BTA is not None
    if not world.config.practises:
        return
    with torch.no_grad():
        observed, playing, given = world.observe(batch, draws()), world.begin(len(batch.first_BT)), draws()
        for step in range(batch.first_BT.shape[1]):
            now = (batch.actions_BTA[:, step], batch.frames_BTCRR[:, step], batch.first_BT[:, step])
            playing = world.follow(playing, *now, given)
            torch.testing.assert_close(playing.state.deter, observed.posterior.deter[:, step], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(playing.state.sample, observed.posterior.sample[:, step], atol=1e-5, rtol=0)


def test_the_lower_of_two_models_reads_no_action() -> None:
    world, batch = WorldModel(CONFIGS["apv"]).eval(), segments()
    assert batch.actions_BTA is not None
    observed, moved = (world.observe(each, draws()) for each in (batch, replace(batch, actions_BTA=-batch.actions_BTA)))
    assert observed.first is not None and moved.first is not None
    assert torch.equal(observed.first[0].feature, moved.first[0].feature)
    assert not torch.equal(observed.posterior.feature, moved.posterior.feature)


def test_the_upper_one_may_read_the_frame_too() -> None:
    world = WorldModel(replace(CONFIGS["apv"], concat_embed=True))
    feature, embedded = world.config.rssm.feature, world.config.frames.embedded
    assert world.rssm.post_hidden.in_features == world.config.rssm.deter + feature + embedded
    assert world.observe(segments(), draws()).posterior.feature.shape[-1] == feature


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_world_takes_over_what_videos_taught(name: str) -> None:
    before, world = WorldModel(CONFIGS[PRETRAINED[name]], seed=3).eval(), WorldModel(CONFIGS[name]).eval()
    world.take_over(before)
    batch = segments()
    with torch.no_grad():
        seen = before.observe(replace(batch, actions_BTA=None), draws())
        ours = world.observe(batch, draws())
        assert torch.equal(seen.embedded_BTE, ours.embedded_BTE)
        features = torch.rand(3, 6, world.config.rssm.feature)
        drawn = [each.draw(features, seen.context, draws()) for each in (before, world)]
        assert torch.equal(*drawn)
        if name in ("apv", "contextwm"):
            assert ours.first is not None  # its first step depends on no draw
            torch.testing.assert_close(seen.posterior.stats[:, 0], ours.first[0].stats[:, 0])


def test_a_world_of_other_sizes_is_not_taken_over() -> None:
    other = replace(CONFIGS["prelar_pretrain"], latent_action=replace(SMALL["latent_action"], width=4))
    world = WorldModel(CONFIGS["prelar"])
    kept = {name: each.clone() for name, each in world.state_dict().items()}
    with pytest.raises(ValueError, match=r"whose Rssm is another one: of another shape: inward\.weight"):
        world.take_over(WorldModel(other, seed=3))
    assert all(torch.equal(each, kept[name]) for name, each in world.state_dict().items())


def test_a_seed_fixes_the_weights_and_leaves_others_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (WorldModel(CONFIGS["contextwm"], seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(each, again[name]) for name, each in first.items())
    differ = [name for name, each in first.items() if not torch.equal(each, other[name])]
    assert any("in_proj_weight" in name for name in differ) and any("encoder" in name for name in differ)


TOTALS = {  # of networks and the bonus's projection, as counted in the originals
    "prelar_pretrain": 28_682_635,
    "prelar_no_al_cl": 28_617_035,
    "apv_pretrain": 23_826_939,
    "contextwm_pretrain": 25_648_827,
    "prelar": 30_814_023,
    "prelar_naive": 29_119_606,
    "apv": 44_294_919,
    "contextwm": 46_043_079 + 73_728,  # there, positions were made after they had been counted
    "naive": 29_034_550,
    "dreamerv2": 31_036_830,
}


@pytest.mark.parametrize("name", TOTALS)
def test_published_systems_have_their_sizes(name: str) -> None:
    from models.dreamer.actor_critic import ActorCritic

    config: DreamerConfig = SYSTEMS[name]()
    with torch.device("meta"):
        world = WorldModel(config)
        found = list(world.parameters()) + ([] if world.bonus is None else [world.bonus.projection])
        if config.practises:
            found += list(ActorCritic(config).parameters())
    assert sum(each.numel() for each in found) == TOTALS[name]


def test_actions_that_a_world_reads_must_be_there() -> None:
    with pytest.raises(ValueError, match="Segments without actions"):
        WorldModel(CONFIGS["dreamerv2"]).observe(replace(segments(), actions_BTA=None), draws())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": (32, 32, 3)}, r"frame \(32, 32, 3\) and frames.resolution 16 differ"),
        ({"stacked": True, "reads": "encoded"}, "not reads=encoded"),
        ({"room": ACTIONS - 1}, "room 1 is less than the 2 numbers of an action"),
        ({"reads": "nothing"}, "say how many numbers with room"),
        ({"consistency": "soft"}, "set reads=video"),
        ({"reads": "viedo"}, "did you mean 'video'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DreamerConfig(**{**SMALL, **changes})
