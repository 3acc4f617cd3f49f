from dataclasses import replace

import pytest
import torch

from models.api import Batch, Context
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, search
from models.planning.imagine import imaginable, imagine

LEGAL = torch.ones(2, 18, dtype=torch.bool)


@pytest.fixture
def real(batch: Batch) -> Batch:
    """The two of the batch's segments whose three newest steps are real."""
    rows = imaginable(batch, 2)
    assert rows.tolist() == [True, False, True]
    fields = ("tokens_BTK", "actions_BT", "rewards_BT", "ends_BT", "mask_BT", "games_B")
    return Batch(**{name: getattr(batch, name)[rows] for name in fields})


def test_the_best_path_is_appended_to_the_newest_steps(model: Jowa, real: Batch) -> None:
    beam = Beam(2, 2)
    ours = imagine(JowaWorld(model), real, LEGAL, beam, 0.99)
    assert real.tokens_BTK is not None and ours.tokens_BTK is not None and ours.imagined_B is not None
    context = Context(real.tokens_BTK[:, 2:], real.actions_BT[:, 2:4], real.games_B)
    path = search(JowaWorld(model), context, LEGAL, beam, 0.99)
    for row in range(2):
        first, second = path.actions_NH[row].tolist()
        assert ours.actions_BT[row].tolist() == [*real.actions_BT[row, 2:4].tolist(), first, second, second]
        first, second = path.rewards_NH[row].tolist()
        assert ours.rewards_BT[row].tolist() == [*real.rewards_BT[row, 2:4].tolist(), first, second, second]
    assert torch.equal(ours.tokens_BTK, torch.cat([real.tokens_BTK[:, 2:], path.tokens_NHK], 1))
    assert not ours.ends_BT.any() and ours.mask_BT.all() and ours.imagined_B.all() and not ours.real_mask().any()


def test_frames_are_the_real_ones_then_the_decoded_ones(model: Jowa, real: Batch) -> None:
    def decode(tokens: torch.Tensor) -> torch.Tensor:  # (..., 4) -> (..., 1, 2, 2)
        return tokens.unflatten(-1, (1, 2, 2)) / 255 + 0.001

    frames = torch.arange(2 * 5 * 4).view(2, 5, 1, 2, 2).to(torch.uint8)
    ours = imagine(JowaWorld(model), replace(real, frames_BTCHW=frames), LEGAL, Beam(2, 2), 0.99, decode)
    assert ours.frames_BTCHW is not None and ours.tokens_BTK is not None
    assert torch.equal(ours.frames_BTCHW[:, :3], frames[:, 2:])
    assert torch.equal(ours.frames_BTCHW[:, 3:].flatten(2).long(), ours.tokens_BTK[:, 3:])


def test_padding_missing_tokens_and_horizons_beyond_the_segment_are_refused(
    model: Jowa, batch: Batch, real: Batch
) -> None:
    world = JowaWorld(model)
    with pytest.raises(ValueError, match="must be real"):
        imagine(world, batch, torch.ones(3, 18, dtype=torch.bool), Beam(2, 2), 0.99)
    with pytest.raises(ValueError, match="at least one"):
        imagine(world, real, LEGAL, Beam(2, 5), 0.99)
    with pytest.raises(ValueError, match="encode the batch"):
        imagine(world, replace(real, tokens_BTK=None), LEGAL, Beam(2, 2), 0.99)
