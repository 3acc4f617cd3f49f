from dataclasses import replace

import pytest
import torch

from models.dreamer.actor_critic import ActorCritic, actor_critic_loss, imagine
from models.dreamer.optimiser import Optimisers, behaviour_parts, frozen
from models.dreamer.world_model import WorldModel
from models.losses.returns import weighted_lambda_returns
from tests.models.dreamer.small_dreamer import CONFIGS, ROWS, STEPS, draws, segments

CONFIG = CONFIGS["prelar"]
HORIZON = CONFIG.behaviour.horizon


def test_returns_of_the_specification() -> None:
    values = torch.tensor([[0.5, 0.6, 0.7, 1.0]])
    rewards, discounts = torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([[0.9, 0.9, 0.9, 0.0]])
    found = weighted_lambda_returns(rewards, discounts, values, 0.95)
    assert found[0].tolist() == pytest.approx([5.61493, 5.36600, 3.90000], abs=1e-5)


@pytest.fixture
def world() -> WorldModel:
    return WorldModel(CONFIG).eval()


def test_a_rollout_begins_at_every_step_and_follows_the_actors_actions(world: WorldModel) -> None:
    networks = ActorCritic(CONFIG)
    start = world.observe(segments(), draws()).posterior.flatten()
    imagined = imagine(world, networks.actor, start, None, HORIZON, draws("play"))
    assert imagined.features.shape == (ROWS * STEPS, HORIZON + 1, CONFIG.rssm.feature)
    assert (imagined.actions_NHA[:, 0] == 0).all() and imagined.actions_NHA.abs().max() < 1
    again = world.rssm.imagine(world.encoded(imagined.actions_NHA[:, 1:], None), HORIZON, start, draws("play"))
    torch.testing.assert_close(again.deter, imagined.states.deter[:, 1:])
    assert imagined.weights[0].tolist() == pytest.approx([0.99**step for step in range(HORIZON + 1)])


def test_the_actor_learns_through_the_world_and_the_critic_by_itself(world: WorldModel) -> None:
    networks = ActorCritic(CONFIG)
    start = world.observe(segments(), draws()).posterior.flatten()
    with frozen(world):
        lost = actor_critic_loss(
            world, networks, imagine(world, networks.actor, start, None, HORIZON, draws()), entropy_in_targets=False
        )
    assert all(each.requires_grad for each in world.parameters())
    lost.actor.backward(retain_graph=True)
    assert all(each.grad is not None for each in networks.actor.parameters())
    assert all(each.grad is None for each in (*networks.critic.parameters(), *networks.target.parameters()))
    assert all(each.grad is None for each in world.parameters())
    networks.zero_grad()
    lost.critic.backward()
    assert all(each.grad is not None for each in networks.critic.parameters())
    torch.testing.assert_close(lost.targets_NH, lost.returns_NH)
    errors = 0.5 * (lost.values_NH - lost.returns_NH).square()
    weights = torch.tensor([0.99**step for step in range(HORIZON)])
    torch.testing.assert_close(lost.critic, (errors * weights).mean())


def test_the_originals_critic_learns_the_entropy_bonus_too(world: WorldModel) -> None:
    networks = ActorCritic(CONFIG)
    start = world.observe(segments(), draws()).posterior.flatten()
    imagined = imagine(world, networks.actor, start, None, HORIZON, draws())
    lost = actor_critic_loss(world, networks, imagined, entropy_in_targets=True)
    torch.testing.assert_close(lost.targets_NH[:, 0], lost.returns_NH[:, 0])
    added = lost.targets_NH[:, 1:] - lost.returns_NH[:, 1:]
    torch.testing.assert_close(added, 1e-4 * lost.entropies_NH.detach(), atol=1e-6, rtol=0)


def test_nothing_counts_behind_an_end_where_the_world_tells_of_ends() -> None:
    config, batch = replace(CONFIGS["dreamerv2"], ends=True), segments()
    world, networks = WorldModel(config).eval(), ActorCritic(config)
    assert batch.ends_BT is not None
    start = world.observe(batch, draws()).posterior.flatten()
    imagined = imagine(world, networks.actor, start, batch.ends_BT.flatten(), HORIZON, draws())
    ended = batch.ends_BT.flatten()
    assert (imagined.weights[ended, 1:] == 0).all() and (imagined.weights[~ended, 1] > 0).all()
    assert imagined.discounts_NH[:, 1:].requires_grad


def test_the_target_follows_at_its_turns_the_first_time_all_the_way() -> None:
    config = replace(CONFIG, behaviour=replace(CONFIG.behaviour, target_every=2, target_share=0.5))
    networks = ActorCritic(config)
    weight, target = networks.critic.out.weight, networks.target.out.weight
    seen = []
    for update in range(4):
        with torch.no_grad():
            weight.fill_(float(update))
        networks.follow()
        seen.append(float(target[0, 0]))
    assert seen == [0.0, 0.0, 1.0, 1.0]
    other = ActorCritic(config)
    other.load_state_dict(networks.state_dict())
    other.follow()
    assert float(other.target.out.weight[0, 0]) == pytest.approx(2.0)  # its turn goes on with its weights


def test_an_update_moves_actor_and_critic_alone(world: WorldModel) -> None:
    networks = ActorCritic(CONFIG)
    before = {name: each.clone() for name, each in networks.state_dict().items()}
    numbers = dict.fromkeys(("actor", "critic"), 1e-2)
    learner = Optimisers(CONFIG, behaviour_parts(networks), numbers, dict.fromkeys(numbers, 100.0), numbers)
    start = world.observe(segments(), draws()).posterior.flatten()
    with frozen(world):
        imagined = imagine(world, networks.actor, start, None, HORIZON, draws())
        lost = actor_critic_loss(world, networks, imagined, entropy_in_targets=False)
    norms = learner.step(lost.actor + lost.critic)
    assert all(float(each) > 0 for each in norms.values())
    moved = {
        name.partition(".")[0] for name, each in networks.state_dict().items() if not torch.equal(each, before[name])
    }
    assert moved == {"actor", "critic"}


def test_a_world_of_videos_gives_nothing_to_practise_for() -> None:
    world = WorldModel(CONFIGS["prelar_pretrain"])
    networks = ActorCritic(CONFIG)
    start = world.observe(segments(), draws()).posterior.flatten()
    imagined = imagine(WorldModel(CONFIG), networks.actor, start, None, 2, draws())
    with pytest.raises(ValueError, match="without rewards"):
        actor_critic_loss(world, networks, imagined, entropy_in_targets=False)
