import pytest
import torch

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.policy import DreamerPolicy
from models.dreamer.world_model import WorldModel
from tests.models.dreamer.small_dreamer import ACTIONS, CONFIGS, SIDE

ROWS = 3


def policy(name: str = "prelar", rows: int = ROWS, temperature: float = 1.0) -> DreamerPolicy:
    config = CONFIGS[name]
    return DreamerPolicy(WorldModel(config), ActorCritic(config), rows, temperature)


def film(steps: int = 4) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (steps, ROWS, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["dreamerv2", "apv", "naive", "prelar", "contextwm"])
def test_an_environment_plays_alike_beside_any_others(name: str) -> None:
    together, alone, frames = policy(name), policy(name, rows=1), film()
    together.begin(range(ROWS), [5, 6, 7])
    alone.begin([0], [6])
    for frame in frames:
        actions = together.act(frame, range(ROWS))
        assert actions.shape == (ROWS, ACTIONS) and actions.abs().max() < 1
        torch.testing.assert_close(actions[1:2], alone.act(frame[1:2], [0]), atol=1e-5, rtol=1e-4)


def test_rows_that_rest_keep_their_state() -> None:
    first, second, frames = policy(), policy(), film()
    for each in (first, second):
        each.begin(range(ROWS), [5, 6, 7])
    first.act(frames[0], range(ROWS))
    second.act(frames[0][[0, 2]], [0, 2])
    second.act(frames[0][[1]], [1])
    torch.testing.assert_close(first.act(frames[1], range(ROWS)), second.act(frames[1], range(ROWS)))


def test_a_new_episode_knows_nothing_of_the_one_before() -> None:
    player, frames = policy(), film()
    player.begin(range(ROWS), [5, 6, 7])
    fresh = player.act(frames[0], range(ROWS))
    later = player.act(frames[0], range(ROWS))
    player.begin([1], [6])
    again = player.act(frames[0], range(ROWS))
    assert not torch.equal(fresh[1], later[1])
    torch.testing.assert_close(again[1], fresh[1])


def test_the_likeliest_actions_still_draw_states() -> None:
    player, frames = policy(temperature=0.0), film()
    player.begin(range(ROWS), [5, 5, 9])
    same = frames[0][:1].expand(ROWS, -1, -1, -1)
    for _ in range(2):
        actions = player.act(same, range(ROWS))
    assert torch.equal(actions[0], actions[1]) and not torch.equal(actions[0], actions[2])
