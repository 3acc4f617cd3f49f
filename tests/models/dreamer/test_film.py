from dataclasses import replace

import pytest
import torch

from models.dreamer.film import predicted, side_by_side
from models.dreamer.world_model import WorldModel
from tests.models.dreamer.small_dreamer import CONFIGS, ROWS, SIDE, STEPS, draws, segments


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_imagined_depends_on_actions_alone(name: str) -> None:
    world, batch = WorldModel(CONFIGS[name]).eval(), segments()
    batch = replace(batch, first_BT=torch.zeros_like(batch.first_BT))
    film = predicted(world, batch, draws(), seen=3)
    assert film.shape == (ROWS, STEPS, 3, SIDE, SIDE)
    if name not in ("dreamerv2", "naive", "apv", "prelar"):
        return  # a context or latent actions are of later frames too
    other = batch.frames_BTCRR.clone()
    other[:, 4:] = 255 - other[:, 4:]
    unseen = predicted(world, replace(batch, frames_BTCRR=other), draws(), seen=3)
    torch.testing.assert_close(unseen, film)
    assert batch.actions_BTA is not None
    moved = batch.actions_BTA.clone()
    moved[:, 4] += 1
    changed = predicted(world, replace(batch, actions_BTA=moved), draws(), seen=3)
    torch.testing.assert_close(changed[:, :4], film[:, :4])
    assert not torch.equal(changed[:, 4], film[:, 4])


def test_a_film_shows_truth_drawing_and_error() -> None:
    truth, drawn = torch.zeros(2, 3, 1, 4, 4), torch.ones(2, 3, 1, 4, 4)
    drawn[1] = 0
    film = side_by_side(truth, drawn)
    assert film.shape == (3, 1, 12, 8)
    assert film[0, 0, ::4, ::4].tolist() == [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]


@pytest.mark.parametrize("seen", [0, STEPS])
def test_both_kinds_of_steps_must_be_there(seen: int) -> None:
    with pytest.raises(ValueError, match="at least one of both kinds"):
        predicted(WorldModel(CONFIGS["dreamerv2"]), segments(), draws(), seen=seen)
