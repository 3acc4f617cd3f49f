"""World model against game: the same actions reach both, and what is said of the difference is so."""

import numpy as np
import pytest

from pipelines.environments.registry import make
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError
from pipelines.play.episodes import EvaluatedEpisodes, RecordedEpisodes
from pipelines.play.mode import open_mode
from pipelines.play.source import Start
from pipelines.play.tensors import Eyes
from pipelines.play.versus import PARTED, apart
from tests.pipelines.conftest import TinyRun
from tests.pipelines.play.playing import FAMILIES, played, source


@pytest.mark.parametrize("family", FAMILIES)
def test_both_play_the_same_actions_from_the_same_frame(family: str) -> None:
    ours = source(family, sample=False, reconstruction=True)
    shown, dream = played(open_mode("versus", ours), 8, presses=1), played(open_mode("dream", ours), 8, presses=1)
    games = make("Breakout", [ours.episode_seed(5, 0)], ours.rules)
    frame, total = games.reset()[0], 0.0
    for step, dreamt in zip(shown, dream, strict=True):
        if step.action is not None:
            found = games.step(np.array([ours.shared(1)]))
            frame, total = found.frames[0], total + float(found.rewards[0])
        assert np.array_equal(step.pictures["game"], frame) and step.total == total
        assert np.array_equal(step.pictures["model"], dreamt.pictures["dream"])
        assert np.array_equal(step.pictures["difference"], apart(step.pictures["model"], frame))
        mean = float(step.pictures["difference"].mean()) / 255
        assert step.facts["difference"] == f"{mean:.2%}"


def test_where_they_part_is_the_first_step_of_a_pixel_too_far_away() -> None:
    ours = source(sample=False)
    mode = open_mode("versus", ours)
    eyes = Eyes(ours)
    parted = []
    for shown in played(mode, 12, presses=1):
        seen = eyes.picture(eyes.tokens(shown.pictures["game"][None])[0])
        parted.append(bool(apart(shown.pictures["model"], seen).max() > PARTED))
        first = parted.index(True) if True in parted else 0
        assert shown.facts["parted"] == (f"at step {first}" if first else "not yet")
    assert parted[0] is False, "the dream begins with the game's own frame"


def test_it_begins_in_an_evaluated_episode_and_goes_on_from_there(tiny: TinyRun) -> None:
    scores = tiny.made["scores"]
    files = scores.path("episodes.jsonl"), scores.path("actions.npz")
    ours = source()
    episodes = EvaluatedEpisodes.of("Breakout", ours.rules, {}, *files)
    ours = source(sets={"evaluated": episodes}, start=Start(1, 10, "evaluated"))
    mode = open_mode("versus", ours)
    shown = mode.reset()
    whole = episodes.read(1, 0, 12)
    assert np.array_equal(shown.pictures["game"], whole.frames[10])
    after = mode.step(int(whole.actions[10]))
    assert np.array_equal(after.pictures["game"], whole.frames[11]) and after.reward == whole.rewards[10]
    assert after.facts["from"] == "evaluated episode 1, step 10"
    mode.close()


def test_no_emulator_stands_in_a_recorded_episode(tiny: TinyRun) -> None:
    reader = Trajectories(tiny.made["trajectories"].path("trajectories.h5"))
    ours = source(sets={"recorded": RecordedEpisodes(reader)}, start=Start(0, 3))
    with pytest.raises(UsageError, match=r"No emulator can stand in a recorded episode.*--of evaluated"):
        open_mode("versus", ours).reset()
