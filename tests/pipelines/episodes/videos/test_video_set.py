"""The one file: episodes without actions, equal for any number of readers, and read by `Trajectories`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.episodes.trajectories import Trajectories
from pipelines.episodes.videos.video_set import Seen, content_of, read_back, write_videos
from pipelines.errors import WorldlineError
from tests.pipelines.episodes.videos.made_videos import wandering


@dataclass
class InMemory:
    """A `VideoSet` of wandering squares."""

    lengths: tuple[int, ...]
    where: str = "memory"
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.lengths))))

    def digest(self, video: int) -> str:
        return f"{video:064x}"

    def load(self, video: int) -> tuple[str, NDArray[np.uint8]]:
        return self.digest(video), wandering(self.lengths[video], video)

    def about(self, video: int) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("lengths", [(3,), (16, 16), (1, 40, 7, 16, 25)])
@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_written_is_read_as_episodes_that_are_truncated(
    tmp_path: Path, lengths: tuple[int, ...], workers: int
) -> None:
    told: list[int] = []
    path = tmp_path / "videos.h5"
    seen, digest = write_videos(InMemory(lengths), range(len(lengths)), path, workers, told.append)
    read_back(path, seen, told.append)
    data = Trajectories(path)
    assert sum(told) == 2 * sum(lengths) and len(digest) == 64
    assert np.diff(data.episode_starts).tolist() == list(lengths) and data.frame_shape == (64, 64, 3)
    for video, length in enumerate(lengths):
        start = int(data.episode_starts[video])
        assert np.array_equal(data.frames(start, start + length), wandering(length, video))
        assert data.source_rows(start, start + length)[-1].tolist() == [0, video, length - 1]
    assert np.flatnonzero(data.truncations).tolist() == (data.episode_starts[1:] - 1).tolist()
    assert not data.actions.any() and not data.rewards.any() and not data.terminals.any()


def test_the_file_is_the_same_for_any_number_of_readers_and_another_for_other_videos(tmp_path: Path) -> None:
    sets = {"one": (range(4), 1), "many": (range(4), 4), "few": (range(3), 1)}
    digests, bytes_of = {}, {}
    for name, (kept, workers) in sets.items():
        path = tmp_path / name
        _, digests[name] = write_videos(InMemory((20, 30, 3, 20)), kept, path, workers, lambda _: None)
        bytes_of[name] = path.read_bytes()
    assert digests["one"] == digests["many"] != digests["few"]
    assert bytes_of["one"] == bytes_of["many"]


def test_only_what_is_kept_is_written(tmp_path: Path) -> None:
    seen, _ = write_videos(InMemory((20, 30, 3)), [0, 2], tmp_path / "v.h5", 2, lambda _: None)
    assert len(Trajectories(tmp_path / "v.h5")) == 23 and [each.digest[-1] for each in seen] == ["0", "2"]


def test_a_video_of_another_length_than_stated_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    videos = InMemory((20, 30))
    videos.load = lambda video: ("0", wandering(19))  # type: ignore[method-assign]
    with pytest.raises(WorldlineError, match=r"memory: 0 has frames \(19, 64, 64, 3\), 20 of"):
        write_videos(videos, [0, 1], tmp_path / "v.h5", 1, lambda _: None)
    seen, _ = write_videos(InMemory((20,)), [0], tmp_path / "v.h5", 1, lambda _: None)
    other = Seen(seen[0].digest, "0" * 64, 0.0, 0)
    with pytest.raises(WorldlineError, match="reads back differently"):
        read_back(tmp_path / "v.h5", [other], lambda _: None)


def test_motion_and_blank_frames_are_seen() -> None:
    moving, still, black = wandering(9), np.repeat(wandering(1), 9, 0), np.zeros((9, 64, 64, 3), np.uint8)
    found = [Seen.of("", frames) for frames in (moving, still, black, moving[:1])]
    expected = np.abs(np.diff(moving.astype(int), axis=0)).mean()
    assert found[0].motion == pytest.approx(expected) and expected > 0.5
    assert [each.motion for each in found[1:]] == [0, 0, 0] and [each.blank for each in found] == [0, 0, 9, 0]


def test_a_content_depends_on_names_and_digests_alone() -> None:
    assert content_of([("a", "1"), ("b", "2")]) == content_of([("a", "1"), ("b", "2")])
    assert len({content_of([("a", "1"), ("b", "2")]), content_of([("a", "2"), ("b", "1")]), content_of([])}) == 3
