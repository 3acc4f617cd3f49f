import pytest
import torch

from models.tokenizers.objective import random_shift


def ramp(batch: int) -> torch.Tensor:
    """Frames (batch, 1, 10, 12) whose pixel is 12 * row + column: its value tells where it came from."""
    return torch.arange(120).view(1, 1, 10, 12).repeat(batch, 1, 1, 1)


def test_every_frame_is_the_original_moved_by_whole_pixels() -> None:
    shifted = random_shift(ramp(200), 3, torch.Generator().manual_seed(0))
    moves = set()
    for frame in shifted[:, 0]:
        down, right = divmod(int(frame[5, 5]), 12)
        down, right = down - 5, right - 5
        moves.add((down, right))
        rows = (torch.arange(10) + down).clamp(0, 9)
        columns = (torch.arange(12) + right).clamp(0, 11)
        assert torch.equal(frame, ramp(1)[0, 0][rows][:, columns])
    assert {down for down, _ in moves} == {right for _, right in moves} == set(range(-3, 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_type_survives_and_the_generator_decides(dtype: torch.dtype) -> None:
    first, second = (random_shift(ramp(4).to(dtype), 3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.dtype == dtype and torch.equal(first, second)
    assert torch.equal(random_shift(ramp(4), 0, torch.Generator()), ramp(4))
