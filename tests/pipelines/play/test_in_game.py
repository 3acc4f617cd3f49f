"""Playing the real game, by a person and by an agent of any family."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.environments.registry import make, protocol
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayerSettings, SearchConfig
from pipelines.evaluation.players import AgentPlayer
from pipelines.play.mode import MODES, open_mode
from tests.pipelines.play.playing import FAMILIES, pictures, played, source

ROLLOUTS = {"settings": PlayerSettings("rollouts", 1, 0, 2, 0.0, 3, 2, SearchConfig(leaf="state"))}


@pytest.mark.parametrize(("family", "changes"), [*((name, {}) for name in FAMILIES), ("rem", ROLLOUTS)])
def test_an_agent_plays_what_it_plays_when_it_is_evaluated(family: str, changes: dict[str, Any]) -> None:
    """Equal rewards and frames, step by step, as the evaluation's own player and environment give."""
    ours = source(family, **changes)
    shown = played(open_mode("agent", ours), 25)
    seed = ours.episode_seed(5, 0)
    player = AgentPlayer(ours.settings, ["Breakout"], ours.agent)
    player.begin(0, seed)
    games = make("Breakout", [seed], ours.rules)
    frames = games.reset()
    for step in shown[1:]:
        actions = player.act(frames, [0])
        assert step.action == ours.chosen(actions[0])
        found = games.step(actions)
        frames = found.frames
        assert np.array_equal(step.pictures["given"], frames[0]) and step.reward == found.rewards[0]
    assert {step.pictures["screen"].shape for step in shown} == {(210, 160, 3)}
    assert [step.step for step in shown] == list(range(26))


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_of_what_is_shown_and_the_best_is_played(family: str) -> None:
    shown = played(open_mode("agent", source(family)), 12)
    for here, after in pairwise(shown):
        assert here.values is not None and here.values.shape == (4,) and after.action == int(here.values.argmax())
    assert {step.facts["values"] for step in shown} == {"Q" if family == "jowa" else "probability"}


def test_reconstruction_shows_what_the_tokenizer_makes_of_a_frame() -> None:
    ours = source(reconstruction=True)
    shown = played(open_mode("game", ours), 3)
    for step in shown:
        given = torch.as_tensor(step.pictures["given"])[None]
        with torch.no_grad():
            expected = (ours.agent.decode(ours.agent.encode(given))[0] * 255).round().numpy()
        assert np.abs(step.pictures["tokenizer"] - expected).max() <= 1
    assert "tokenizer" not in played(open_mode("game", source()), 0)[0].pictures


def test_a_person_presses_or_waits_and_an_end_begins_the_next_episode() -> None:
    mode = open_mode("game", source(rules=replace(protocol("sticky"), max_frames=20)))
    assert mode.asks and mode.actions == ("NOOP", "FIRE", "RIGHT", "LEFT")
    shown = played(mode, 11, presses=1)
    assert [step.action for step in shown] == [None, *[1] * 5, None, *[1] * 5]
    assert [step.ended for step in shown] == [False, *[False] * 4, True, False, *[False] * 4, True]
    assert [step.step for step in shown] == [*range(6), *range(6)]
    assert shown[5].facts["end"] == "truncated" and shown[7].facts["episode"] == "1"
    assert mode.step(None).action is None and mode.step(None).action == 0
    for place in (4, -1):
        with pytest.raises(UsageError, match=f"Action {place} is none of Breakout's 4: give 0 to 3, for NOOP, FIRE"):
            mode.step(place)
    mode.close()


@pytest.mark.parametrize("name", [name for name in MODES if name != "episodes"])
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name == "iris" else []) for name in FAMILIES]
)
def test_a_seed_gives_the_same_pictures_in_every_mode_and_another_seed_others(family: str, name: str) -> None:
    """The same bytes twice: after a reset, and in a new mode of an agent of the same weights."""
    ours = source(family, sample=True)
    mode = open_mode(name, ours)
    first, again = (played(mode, 8, presses=1, seed=9) for _ in range(2))
    fresh = played(open_mode(name, source(family, sample=True)), 8, presses=1, seed=9)
    other = played(mode, 8, presses=1, seed=10)
    mode.close()
    for title in first[0].pictures:
        assert pictures(first, title).tobytes() == pictures(again, title).tobytes() == pictures(fresh, title).tobytes()
    assert [step.facts for step in first] == [step.facts for step in again]
    if name not in ("agent", "game"):  # in the game equal presses may look alike for a while
        assert any(pictures(first, title).tobytes() != pictures(other, title).tobytes() for title in first[0].pictures)


def test_an_unknown_mode_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Unknown mode 'draem': did you mean 'dream'"):
        open_mode("draem", source())


def test_beam_and_tree_search_play_too() -> None:
    for planner in ("beam", "mcts"):
        settings = PlayerSettings(planner, 1, 0, context=2, epsilon=0.0, width=2, horizon=1)
        shown = played(open_mode("agent", source(settings=settings)), 2)
        assert shown[-1].facts["planner"] == planner and shown[-1].values is not None
