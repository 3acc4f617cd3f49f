from dataclasses import replace

import pytest
import torch

from models.dreamer.config import Faults
from models.dreamer.loss import world_loss
from models.dreamer.optimiser import SPLIT, WORLD, Optimisers, rate, world_parts
from models.dreamer.world_model import WorldModel
from tests.models.dreamer.small_dreamer import CONFIGS, draws, segments

NUMBERS = {SPLIT: 3e-4, WORLD: 3e-4}


def learner(world: WorldModel) -> Optimisers:
    return Optimisers(
        world.config, world_parts(world), NUMBERS, dict.fromkeys(NUMBERS, 100.0), dict.fromkeys(NUMBERS, 1e-6)
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_has_one_optimiser(name: str) -> None:
    world = WorldModel(CONFIGS[name])
    parts = world_parts(world)
    names = [each for part in parts.values() for each in part]
    assert sorted(names) == sorted(each for each, _ in world.named_parameters())
    carried = {each.partition(".")[0] for each in parts.get(SPLIT, {})}
    split = {"apv": {"encoder", "first"}, "contextwm": {"encoder", "first"}}
    assert carried == split.get(name, {"encoder", "rssm"} if world.config.split else set())


def test_what_videos_taught_waits_and_the_rest_does_not() -> None:
    world = WorldModel(CONFIGS["prelar"])
    learns, before = learner(world), {name: each.detach().clone() for name, each in world.named_parameters()}
    for update in range(3):
        world.train()
        learns.step(world_loss(world, segments(), draws(step=update)).total(world.config))
        moved = {
            name.partition(".")[0] for name, each in world.named_parameters() if not torch.equal(each, before[name])
        }
        assert {"decoder", "reward", "action_encoder"} <= moved
        assert moved.isdisjoint({"encoder", "rssm"}) == (update < 2)
    assert [rate(world.config, SPLIT, 3e-4, update) for update in range(4)] == [0, 0, 3e-4, 3e-4]
    assert rate(world.config, WORLD, 3e-4, 0) == 3e-4


def test_each_optimiser_clips_its_own_gradients() -> None:
    world = WorldModel(CONFIGS["prelar"])
    learns = learner(world)
    total = world_loss(world, segments(), draws()).total(world.config)
    learns.backward(total * 1000)
    norms = learns.move()
    for part, parameters in learns.parts.items():
        squares = torch.stack([learns.gradients[name].square() for name in parameters])
        assert float(norms[part]) == pytest.approx(float(squares.sum().sqrt()), rel=1e-4)
        after = torch.stack([each.grad.norm() for each in parameters.values() if each.grad is not None]).norm()
        assert float(norms[part]) > 100 and float(after) == pytest.approx(100, rel=1e-3)


def test_the_decoders_places_are_learned_unless_they_came_too_late() -> None:
    for late in (False, True):
        config = replace(CONFIGS["contextwm"], faults=Faults(late_positions=late))
        names = {name for part in world_parts(WorldModel(config)).values() for name in part}
        assert any(name.endswith(("drawn_at", "context_at")) for name in names) != late


def test_decay_is_added_to_gradients() -> None:
    world = WorldModel(CONFIGS["dreamerv2"])
    optimiser = learner(world).adams[WORLD]
    (group,) = optimiser.param_groups
    assert type(optimiser) is torch.optim.Adam and (group["eps"], group["weight_decay"]) == (1e-5, 1e-6)
