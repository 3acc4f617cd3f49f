from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.api import Batch, Context
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, search
from models.planning.imagination import ImaginedBuffer, imaginable, imagine

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


def segments(*numbers: int) -> Batch:
    """One-step segments that are told apart by their reward."""
    rows = len(numbers)
    return Batch(
        tokens_BTK=torch.zeros(rows, 1, 4, dtype=torch.long),
        actions_BT=torch.zeros(rows, 1, dtype=torch.long),
        rewards_BT=torch.tensor(numbers, dtype=torch.float32)[:, None],
        ends_BT=torch.zeros(rows, 1, dtype=torch.long),
        mask_BT=torch.ones(rows, 1, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        imagined_B=torch.ones(rows, dtype=torch.bool),
    )


def numbers(buffer: ImaginedBuffer, count: int) -> list[int]:
    return buffer.sample(count).rewards_BT[:, 0].int().tolist()


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_buffer_keeps_the_newest_segments_and_draws_all_of_them(capacity: int, sizes: list[int]) -> None:
    buffer, added = ImaginedBuffer(capacity), 0
    for size in sizes:
        buffer.add(segments(*range(added, added + size)))
        added += size
    assert len(buffer) == min(added, capacity)
    assert set(numbers(buffer, 200)) == set(range(max(0, added - capacity), added))


def test_a_seed_repeats_its_draws_and_a_state_continues_them() -> None:
    def filled(seed: int) -> ImaginedBuffer:
        buffer = ImaginedBuffer(8, seed)
        buffer.add(segments(*range(11)))
        return buffer

    first, again, other = filled(1), filled(1), filled(2)
    assert numbers(first, 20) == numbers(again, 20) != numbers(other, 20)
    twin = ImaginedBuffer(8, 5)
    twin.restore(first.state())
    first.add(segments(50, 51))
    twin.add(segments(50, 51))
    assert numbers(first, 20) == numbers(twin, 20)


def test_an_empty_buffer_and_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ImaginedBuffer(0)
    buffer = ImaginedBuffer(3)
    with pytest.raises(ValueError, match="No segments"):
        buffer.sample(1)
    buffer.add(segments(1))
    with pytest.raises(ValueError, match="do not fit among"):
        buffer.add(replace(segments(1), tokens_BTK=None))
    buffer.add(segments(2, 3, 4))
    with pytest.raises(ValueError, match="not of capacity 2"):
        ImaginedBuffer(2).restore(buffer.state())
