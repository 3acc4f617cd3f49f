"""Dreams: they begin with real steps, are what the world model imagines, and the agent knows what was before."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from models.api import Context
from pipelines.environments.actions import to_shared
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError
from pipelines.play.episodes import RecordedEpisodes
from pipelines.play.mode import open_mode
from pipelines.play.source import PlaySource, Start
from tests.pipelines.conftest import TinyRun
from tests.pipelines.play.playing import FAMILIES, ends, pictures, played, source


def from_recorded(tiny: TinyRun, episode: int, step: int) -> PlaySource:
    reader = Trajectories(tiny.made["trajectories"].path("trajectories.h5"))
    sets = {"recorded": RecordedEpisodes(reader)}
    return source(sets=sets, start=Start(episode, step), sample=False)


def test_a_dream_begins_with_the_recorded_steps_and_is_the_worlds_imagination(tiny: TinyRun) -> None:
    ours = from_recorded(tiny, 0, 7)
    mode = open_mode("dream", ours)
    shown = played(mode, 5, presses=2)
    reader = Trajectories(tiny.made["trajectories"].path("trajectories.h5"))
    at = int(reader.episode_starts[0])
    frames, actions = reader.frames(at + 6, at + 8), to_shared("Breakout", reader.actions[at + 6 : at + 7])
    world = ours.agent.world()
    with torch.no_grad():
        tokens = ours.agent.encode(torch.as_tensor(frames)[:, None])[None]
        taken = torch.as_tensor(actions.astype(np.int64))[None]
        here = world.reset(Context(tokens, taken, torch.tensor([game_id("Breakout")])))
        for step in shown:
            expected = (ours.agent.decode(here.tokens_NK)[0, 0] * 255).round().numpy()
            assert np.array_equal(step.pictures["dream"], expected) and step.reward == float(here.rewards_N[0])
            assert step.values is not None
            own = here.values_NA[0, to_shared("Breakout", range(4)).astype(np.int64)].numpy()
            assert np.allclose(step.values, own, atol=1e-5)
            if step is not shown[-1]:
                here = world.step(torch.tensor([ours.shared(2)]))
    assert shown[0].facts["from"] == "recorded episode 0, step 7"
    assert mode.asks


@pytest.mark.parametrize("family", FAMILIES)
def test_the_header_says_when_the_memory_slides_or_is_flushed(family: str) -> None:
    shown = played(open_mode("dream", source(family, sample=False)), 9, presses=0)
    word = "slide" if family == "jowa" else "flush"
    assert {step.facts["forgot"] for step in shown} == {"", word}
    steps = [int(step.facts["memory"].split(" of ")[0]) for step in shown]
    most = int(shown[0].facts["memory"].split(" of ")[1].split()[0])
    assert max(steps) == most and steps[0] == 1, "the emulator's start is one step"
    per_step = source(family).agent.tokens_per_frame + 1
    passes = {int(step.facts["passes"]) for step in shown[1:]}
    if family == "rem":
        assert passes == {1}, "a frame is predicted in the pass that reads one"
    else:
        assert min(passes) >= 2 and max(passes) <= per_step + 1, "a frame is drafted, and verified in fewer passes"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_agent_dreams_by_what_it_thinks_of_the_dream(family: str) -> None:
    mode = open_mode("dream-agent", source(family))
    shown = played(mode, 8)
    assert not mode.asks
    for here, after in pairwise(shown):
        assert after.action is None or (here.values is not None and after.action == int(here.values.argmax()))


def test_the_agent_that_dreams_remembers_the_real_steps_before(tiny: TinyRun) -> None:
    """It decides as its policy does which was shown the same frames."""
    ours = from_recorded(tiny, 0, 9)
    shown = open_mode("dream-agent", ours).reset()
    reader = Trajectories(tiny.made["trajectories"].path("trajectories.h5"))
    player = ours.player()
    player.begin(0, 1)
    player.recall(0, reader.frames(8, 9), to_shared("Breakout", reader.actions[8:9]))
    player.act(reader.frames(9, 10), [0])
    assert shown.values is not None and np.allclose(shown.values, ours.own_values(player.values(0)[0]), atol=1e-5)


def test_a_dream_that_ends_begins_again_from_the_same_steps() -> None:
    ours = source(sample=True)
    mode = open_mode("dream", ours)
    first = mode.reset()
    ends(ours, 9.0)
    ended, again, more = mode.reset(), mode.step(1), mode.step(1)
    assert not ended.ended and again.ended and again.facts["end"] == "imagined" and again.values is None
    assert more.action is None and more.step == 0 and more.total == 0 and more.facts["episode"] == "1"
    assert np.array_equal(more.pictures["dream"], first.pictures["dream"])


def test_no_ops_lead_to_where_a_dream_begins_in_the_emulator() -> None:
    still, later = (open_mode("dream", source(start=Start(None, step))).reset() for step in (0, 30))
    assert later.facts["from"] == "the emulator's start, step 30"
    assert later.facts["memory"].startswith("2 of") and still.facts["memory"].startswith("1 of")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (Start(99, 0), r"Episode 99 is none of the \d+ recorded ones: give 0 to"),
        (Start(0, 5000), r"Step 5000 is none of the \d+ of recorded episode 0: give 0 to"),
        (Start(0, 0, "evaluated"), "There are no evaluated episodes of Breakout here: choose of recorded"),
        (Start(None, 10**6), r"Breakout ends after \d+ no-ops: begin at an earlier step"),
    ],
)
def test_a_beginning_that_there_is_not_is_refused(tiny: TinyRun, start: Start, message: str) -> None:
    ours = replace(from_recorded(tiny, 0, 0), start=start)
    if start.episode is None:
        ours = replace(ours, rules=replace(ours.rules, max_frames=400))
    with pytest.raises(UsageError, match=message):
        open_mode("dream", ours).reset()


def test_without_episodes_one_begins_in_the_emulator() -> None:
    with pytest.raises(UsageError, match="no recorded episodes of Breakout here: begin in the emulator"):
        open_mode("dream", source(start=Start(0, 0))).reset()
    assert pictures(played(open_mode("dream", source()), 1), "dream").shape == (2, 84, 84)
