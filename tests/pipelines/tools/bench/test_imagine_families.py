"""Families that are compared are of one size, and each imagines all the frames that it is timed for."""

import pytest
import torch

from models.practice.world import Step
from pipelines.tools.bench.imagine_families import FamilySizes, family_rows, sides


def test_world_models_are_of_about_equal_size() -> None:
    sizes = [side.parameters for side in sides(FamilySizes())]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.slow
def test_each_imagines_frames_of_its_own_and_its_rate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in sides(FamilySizes()):
        steps: list[Step] = []
        step = side.player.step
        monkeypatch.setattr(side.player, "step", lambda *given, _step=step, _to=steps: _to.append(_step(*given)))
        side.rollout(rows=2, frames=2)()
        assert len(steps) == 2
        for one in steps:
            assert one.tokens_NK is not None and one.tokens_NK.shape == (2, side.tokenizer.tokens_per_frame)
        first, second = (one.tokens_NK for one in steps)
        assert not torch.equal(first, second)  # type: ignore[arg-type]
    rows = family_rows(FamilySizes(rows=1, frames=1))
    assert [row.name for row in rows] == ["rem-frames", "simulus-frames"]
    assert all("frames/s" in row.ours and "16 tokens a frame" in row.theirs and row.ratio > 0 for row in rows)
