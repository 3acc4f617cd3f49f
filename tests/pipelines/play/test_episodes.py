"""Episodes of all three kinds, a step at a time, and the mode that shows them."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.environments.actions import to_own
from pipelines.environments.registry import protocol
from pipelines.environments.rollout import replay
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.play.episodes import EvaluatedEpisodes, ImaginedEpisodes, RecordedEpisodes
from pipelines.play.mode import open_mode
from pipelines.play.source import PlaySource, Start
from pipelines.play.taken import Taken
from tests.pipelines.conftest import TinyRun
from tests.pipelines.play.playing import ends, pictures, played, source


def evaluated(tiny: TinyRun) -> EvaluatedEpisodes:
    scores = tiny.made["scores"]
    files = scores.path("episodes.jsonl"), scores.path("actions.npz")
    return EvaluatedEpisodes.of("Breakout", protocol("sticky"), {}, *files)


def all_sets(tiny: TinyRun, tmp_path: Path) -> PlaySource:
    dreaming = source(sample=True)
    taken = Taken("Breakout", dreaming.actions, (shown := played(open_mode("dream", dreaming), 6, presses=1))[0])
    for each in shown[1:]:
        taken.add(each)
    taken.write_arrays(tmp_path)
    sets = {
        "recorded": RecordedEpisodes(Trajectories(tiny.made["trajectories"].path("trajectories.h5"))),
        "evaluated": evaluated(tiny),
        "imagined": ImaginedEpisodes([tmp_path / "recording.npz"]),
    }
    return source(sets=sets, reconstruction=True)


def test_evaluated_ones_are_played_again_as_far_as_they_are_asked_for(tiny: TinyRun) -> None:
    episodes = evaluated(tiny)
    with np.load(tiny.made["scores"].path("actions.npz")) as actions:
        names = [name for name in actions.files if not name.startswith("random")]
        assert episodes.lengths == tuple(len(actions[name]) for name in names)
        taken = actions[names[1]]
    episode = episodes._episodes[1]
    frames = np.stack(list(replay("Breakout", episode, protocol("sticky"))))
    later, early = episodes.read(1, 20, 25), episodes.read(1, 3, 5)
    assert np.array_equal(later.frames, frames[20:25]) and np.array_equal(early.frames, frames[3:5])
    assert np.array_equal(later.actions, to_own("Breakout", taken[20:25]))
    assert float(episodes.read(1, 0, len(taken)).rewards.sum()) == episode.score
    assert len(episodes.read(0, 0, 2).frames) == 2, "another one begins anew"
    episodes.close()


@pytest.mark.parametrize(
    ("name", "data"),
    [("episodes.jsonl", b"{"), ("actions.npz", b"no archive"), ("actions.npz", b""), ("episodes.jsonl", b"{}\n")],
)
def test_damaged_scores_are_one_line(tiny: TinyRun, tmp_path: Path, name: str, data: bytes) -> None:
    for each in ("episodes.jsonl", "actions.npz"):
        (tmp_path / each).write_bytes(tiny.made["scores"].path(each).read_bytes())
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WorldlineError, match="holds damaged episodes"):
        EvaluatedEpisodes.of("Pong", protocol("sticky"), {}, tmp_path / "episodes.jsonl", tmp_path / "actions.npz")


def test_imagined_ones_are_the_dreams_of_recordings_each_from_its_beginning(tmp_path: Path) -> None:
    ours = source()
    ends(ours, 9.0)
    shown = played(open_mode("dream", ours), 5, presses=2)  # begin, end, begin, end, begin, end
    taken = Taken("Breakout", ours.actions, shown[0])
    for each in shown[1:]:
        taken.add(each)
    taken.write_arrays(tmp_path)
    found = ImaginedEpisodes([tmp_path / "recording.npz"])
    assert found.lengths == (1, 1, 1)
    assert np.array_equal(found.read(1, 0, 1).frames, pictures(shown, "dream")[2:3])
    assert found.read(1, 0, 1).actions.tolist() == [2]
    (tmp_path / "recording.npz").write_bytes(b"x")
    with pytest.raises(WorldlineError, match="no readable recording"):
        ImaginedEpisodes([tmp_path / "recording.npz"])


def test_a_dream_that_was_recorded_from_its_middle_on_is_an_episode_too(tmp_path: Path) -> None:
    dreaming = source(sample=False)
    shown = played(open_mode("dream", dreaming), 6, presses=1)[2:]
    taken = Taken("Breakout", dreaming.actions, shown[0])
    for each in shown[1:]:
        taken.add(each)
    taken.write_arrays(tmp_path)
    found = ImaginedEpisodes([tmp_path / "recording.npz"])
    assert found.lengths == (4,)
    assert np.array_equal(found.read(0, 0, 4).frames, pictures(shown, "dream")[:4])
    found.close()


def test_without_recorded_episodes_the_mode_begins_with_what_there_is(tiny: TinyRun) -> None:
    mode = open_mode("episodes", source(sets={"evaluated": evaluated(tiny)}, start=Start(None, 40)))
    shown = mode.reset()
    assert mode.of == "evaluated" and shown.step == 0 and shown.facts["from"].startswith("evaluated episode 0")
    with pytest.raises(UsageError, match="There are no recorded episodes of Breakout here"):
        open_mode("episodes", source(start=Start(None, 0)))


def test_the_mode_steps_seeks_and_shows_another_kind(tiny: TinyRun, tmp_path: Path) -> None:
    ours = all_sets(tiny, tmp_path)
    mode = open_mode("episodes", ours)
    reader = Trajectories(tiny.made["trajectories"].path("trajectories.h5"))
    assert mode.sets == ("recorded", "evaluated", "imagined") and not mode.asks
    shown = mode.reset()
    assert np.array_equal(shown.pictures["given"], reader.frames(0, 1)[0]) and "tokenizer" in shown.pictures
    length = mode.lengths[0]
    shown = mode.seek(0, length - 2)
    assert shown.total == float(reader.rewards[: length - 1].sum()) and shown.action == reader.actions[length - 2]
    shown = mode.step(None)
    assert shown.ended and shown.step == length - 1 and shown.total == float(reader.rewards[:length].sum())
    again = mode.step(None)
    assert again.step == 0, "behind the last the first again"
    film = Taken("Breakout", ours.actions, shown)
    film.add(again)
    assert film.counts == {"steps": 1, "episodes": 2}
    shown = mode.choose("evaluated")
    assert mode.of == "evaluated" and len(mode.lengths) > 1 and shown.facts["from"].startswith("evaluated episode 0")
    shown = mode.choose("imagined")
    assert mode.lengths == (6,) and shown.pictures["given"].shape == (84, 84)
    with pytest.raises(UsageError, match="Episode 1 is none of the 1 imagined ones"):
        mode.seek(1, 0)
    with pytest.raises(UsageError, match="There are no dreamt episodes of Breakout here: choose of recorded"):
        mode.choose("dreamt")
    mode.close()


def test_scrubbing_reads_the_one_frame_that_is_shown(
    tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = all_sets(tiny, tmp_path)
    for episodes in ours.sets.values():
        assert episodes.earned(0, 0) == 0
        for stop in (1, episodes.lengths[0]):
            assert episodes.earned(0, stop) == float(episodes.read(0, 0, stop).rewards.sum())
    mode, asked = open_mode("episodes", ours), []
    recorded = ours.sets["recorded"]
    read = recorded.read
    monkeypatch.setattr(recorded, "read", lambda *where: asked.append(where) or read(*where))
    for step in (mode.lengths[0] - 1, 3):
        mode.seek(0, step)
    assert asked == [(0, step, step + 1) for step in (mode.lengths[0] - 1, 3)]
    mode.close()


def test_without_any_episode_there_is_nothing_to_show() -> None:
    with pytest.raises(UsageError, match="There are no recorded episodes of Breakout here"):
        open_mode("episodes", source(start=Start(0)))
