"""Pictures of behaviour data: a replay whole, with gaps, and with nothing complete in it; gaps are not zeros."""

from pathlib import Path

import pytest
from PIL import Image

from pipelines.plots import replay
from pipelines.sources.dqn_replay.log_order import to_table
from pipelines.sources.dqn_replay.stitch import stitch
from tests.pipelines.sources.dqn_replay.toy import Kept, play


def test_draws_gaps_and_long_series(tmp_path):
    replay.draw_returns({"Freeway": [0.0, None, 12.5, 18.0, 20.9], "Boxing": list(range(50))}, tmp_path / "q.png")
    with Image.open(tmp_path / "q.png") as image:
        assert image.format == "PNG" and image.width > image.height
    assert (tmp_path / "q.png").stat().st_size < 150_000


def test_a_gap_is_not_a_zero(tmp_path):
    replay.draw_returns({"Freeway": [5.0, None, 10.0]}, tmp_path / "gap.png")
    replay.draw_returns({"Freeway": [5.0, 0.0, 10.0]}, tmp_path / "zero.png")
    assert (tmp_path / "gap.png").read_bytes() != (tmp_path / "zero.png").read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no game"):
        replay.draw_returns({}, tmp_path / "q.png")


def drawn(path: Path, lengths: list[int], without: int | None = None) -> bytes:
    ring = Kept(capacity=48, stack_size=4)
    play(ring, Path(), lengths, unfinished=3)
    found = stitch([log for log in ring.taken if log.checkpoint != without], 1, 4)
    replay.draw_facts(to_table(found.facts), found.episodes, path)
    return path.read_bytes()


def test_the_same_replay_gives_the_same_bytes_and_a_gap_shows(tmp_path) -> None:
    first = drawn(tmp_path / "a.png", [13] * 20)
    assert first == drawn(tmp_path / "b.png", [13] * 20)
    assert first != drawn(tmp_path / "c.png", [13] * 20, without=2)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width > image.height
    assert len(first) < 60_000


def test_nothing_complete_is_drawn_too(tmp_path) -> None:
    assert drawn(tmp_path / "a.png", [])


def test_no_log_is_nothing_to_draw(tmp_path) -> None:
    ring = Kept(capacity=48, stack_size=4)
    play(ring, Path(), [13])
    with pytest.raises(ValueError, match="no log"):
        replay.draw_facts(to_table([]), stitch(ring.taken, 1, 4).episodes, tmp_path / "a.png")
