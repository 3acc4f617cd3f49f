"""What a recording holds: every picture again, in equal bytes for equal steps, a film, and trajectories to learn on."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.environments.registry import protocol
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError
from pipelines.play.mode import Shown, open_mode
from pipelines.play.taken import Taken, beside
from tests.pipelines.play.playing import played, source


def taken(shown: list[Shown], names: tuple[str, ...]) -> Taken:
    found = Taken("Breakout", names, shown[0])
    for each in shown[1:]:
        found.add(each)
    return found


def test_arrays_come_back_and_equal_steps_make_equal_bytes(tmp_path: Path) -> None:
    ours = source()
    shown = played(open_mode("dream", ours), 5, presses=3)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        taken(shown, ours.actions).write_arrays(tmp_path / folder)
    assert (tmp_path / "one/recording.npz").read_bytes() == (tmp_path / "two/recording.npz").read_bytes()
    with np.load(tmp_path / "one/recording.npz", allow_pickle=False) as data:
        assert np.array_equal(data["pictures_dream"], np.stack([each.pictures["dream"] for each in shown]))
        assert data["actions"].tolist() == [-1, 3, 3, 3, 3, 3] and data["steps"].tolist() == list(range(6))
        assert data["names"].tolist() == ["NOOP", "FIRE", "RIGHT", "LEFT"] and data["values"].shape == (6, 4)
        assert not data["ended"].any() and data["totals"].dtype == np.float32
    facts = [json.loads(line) for line in (tmp_path / "one/facts.jsonl").read_text().splitlines()]
    assert len(facts) == 6 and facts[0]["from"] == "the emulator's start, step 0"


def test_what_was_played_in_the_game_becomes_trajectories(tmp_path: Path) -> None:
    ours = source(rules=replace(protocol("sticky"), max_frames=40))
    shown = played(open_mode("game", ours), 26, presses=1)
    found = taken(shown, ours.actions)
    assert len(found.write_trajectories(tmp_path)) == 64
    reader = Trajectories(tmp_path / "trajectories.h5")
    assert reader.game == "Breakout" and reader.action_names == ours.actions and reader.frame_shape == (84, 84)
    assert np.diff(reader.episode_starts).tolist() == [10, 10, 4]
    assert reader.truncations.nonzero()[0].tolist() == [9, 19, 23] and not reader.terminals.any()
    seen = [shown[at].pictures["given"] for at in (*range(10), *range(11, 21), *range(22, 26))]
    assert np.array_equal(reader.frames(0, 24), np.stack(seen)), "what an action was chosen at"
    assert set(reader.actions.tolist()) == {1} and found.counts == {"steps": 26, "episodes": 3}
    assert taken(played(open_mode("dream", ours), 3), ours.actions).write_trajectories(tmp_path) == ""


def test_a_recording_that_begins_in_mid_episode_holds_what_was_played_in_it_alone(tmp_path: Path) -> None:
    ours = source()
    shown = played(open_mode("game", ours), 6, presses=1)
    found = taken(shown[3:], ours.actions)
    assert found.write_trajectories(tmp_path) and found.counts["steps"] == 3
    reader = Trajectories(tmp_path / "trajectories.h5")
    assert np.diff(reader.episode_starts).tolist() == [3]
    assert np.array_equal(reader.frames(0, 3), np.stack([each.pictures["given"] for each in shown[3:6]]))


def test_a_film_shows_all_pictures_side_by_side(tmp_path: Path) -> None:
    ours = source(reconstruction=True)
    found = taken(played(open_mode("game", ours), 12, presses=1), ours.actions)
    path = found.write_film(tmp_path / "film.mp4")
    film = cv2.VideoCapture(str(path))
    assert path.suffix == ".mp4" and film.get(cv2.CAP_PROP_FRAME_COUNT) == 13
    ok, frame = film.read()
    assert ok and frame.shape == (210, 160 + 168 + 168 + 8, 3)


def test_pictures_are_enlarged_by_whole_factors_and_an_odd_size_is_filled_up() -> None:
    grey, colour = np.full((4, 5), 9, np.uint8), np.full((9, 2, 3), 7, np.uint8)
    whole = beside([grey, colour])
    assert whole.shape == (10, 16, 3) and (whole[0:8, 0:10] == 9).all() and (whole[8, 0:10] == 0).all()
    assert (whole[:9, 14:16] == 7).all()


def test_a_recording_has_at_most_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.play.taken.LONGEST", 3)
    shown = Shown({"dream": np.zeros((2, 2), np.uint8)}, 0)
    found = taken([shown] * 4, ("NOOP",))
    with pytest.raises(UsageError, match="at most 3 steps"):
        found.add(shown)
    assert len(found) == 3
