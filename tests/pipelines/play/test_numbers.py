"""Play where an action is numbers: an agent plays and dreams, what was played is browsed, no key says an action."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.dreamer.agent import DreamerAgent
from pipelines.environments.registry import make, protocol
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.players import AgentPlayer
from pipelines.play import protocol as wire
from pipelines.play.episodes import ImaginedEpisodes, RecordedEpisodes
from pipelines.play.mode import ASKING, MODES, RECORDING, modes_of, open_mode
from pipelines.play.source import PlaySource, Start
from pipelines.play.taken import Taken
from tests.models.dreamer.small_dreamer import CONFIGS
from tests.pipelines.environments.toy_arm import GAME, SIZE, STEPS, known
from tests.pipelines.play.playing import pictures, played


@pytest.fixture(autouse=True)
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known(monkeypatch)
    yield


def source(**changes: object) -> PlaySource:
    agent = DreamerAgent(CONFIGS["dreamerv2"], seed=1)
    settings = PlayerSettings("greedy", 1, 0, context=2, epsilon=0.0)
    given: dict[str, object] = {"seed": 5, "reconstruction": True} | changes
    return PlaySource(GAME, protocol("arm"), agent, settings, **given)  # type: ignore[arg-type]


def test_the_agent_plays_what_it_plays_when_it_is_evaluated() -> None:
    ours = source()
    shown = played(open_mode("agent", ours), STEPS + 3)
    seed = ours.episode_seed(5, 0)
    player = AgentPlayer(ours.settings, [GAME], ours.agent)
    player.begin(0, seed)
    games = make(GAME, [seed], ours.rules)
    frames = games.reset()
    for step in shown[1 : STEPS + 1]:
        actions = player.act(frames, [0])
        assert np.array_equal(np.float32(step.action), actions[0]) and step.values is None
        found = games.step(actions)
        frames = found.frames
        assert np.array_equal(step.pictures["given"], frames[0]) and step.reward == float(found.rewards[0])
    assert [each.step for each in shown] == [*range(STEPS + 1), 0, 1, 2] and shown[STEPS].ended
    assert "values" not in shown[1].facts and len(shown[1].facts["action"].split()) == SIZE
    header, _ = wire.parts(wire.pictures(shown[1], 1))
    assert header["action"] is None and header["facts"]["action"] == shown[1].facts["action"]


@pytest.mark.parametrize("sample", [None, False])
def test_it_dreams_from_the_game_and_from_an_episode_the_same_again(sample: bool | None, tmp_path: Path) -> None:
    before = recorded(tmp_path)
    for start in (Start(step=3), Start(0, 4)):
        ours = source(start=start, sample=sample, sets={"recorded": RecordedEpisodes(before)})
        shown, again = (played(open_mode("dream-agent", ours), 6) for _ in range(2))
        assert np.array_equal(pictures(shown, "dream"), pictures(again, "dream"))
        assert [each.action for each in shown] == [each.action for each in again]
        assert shown[0].action is None and np.shape(shown[1].action) == (SIZE,) and shown[1].values is None
        assert pictures(shown, "dream").shape == (7, 16, 16, 3)


def recorded(folder: Path) -> Trajectories:
    """What an agent played, kept as a recording is."""
    shown = played(open_mode("agent", source()), 2 * STEPS + 3)
    taken = Taken(GAME, (), shown[0])
    for each in shown[1:]:
        taken.add(each)
    assert taken.write_trajectories(folder)
    taken.write_arrays(folder)
    with np.load(folder / RECORDING, allow_pickle=False) as data:
        assert data["actions"].shape == (len(shown), SIZE) and data["actions"].dtype == np.float32
        assert np.isnan(data["actions"]).any(1).nonzero()[0].tolist() == [0, STEPS + 1, 2 * STEPS + 2]
        assert data["names"].shape == (0,) and data["values"].shape == (len(shown), 0)
    return Trajectories(folder / FILE_NAME)


def test_what_was_played_is_browsed_and_holds_its_numbers(tmp_path: Path) -> None:
    data = recorded(tmp_path)
    shown = played(open_mode("agent", source()), STEPS)
    assert np.array_equal(data.actions[:STEPS], np.float32([each.action for each in shown[1:]]))
    assert np.allclose(data.rewards[:STEPS], [each.reward for each in shown[1:]]), "as they were, not their signs"
    dreams = played(open_mode("dream-agent", source()), 5)
    taken = Taken(GAME, (), dreams[0])
    for each in dreams[1:]:
        taken.add(each)
    (tmp_path / "dream").mkdir()
    taken.write_arrays(tmp_path / "dream")
    sets = {"recorded": RecordedEpisodes(data), "imagined": ImaginedEpisodes([tmp_path / "dream" / RECORDING])}
    mode = open_mode("episodes", source(sets=sets))
    browsed = played(mode, 3)
    assert browsed[0].action == tuple(map(float, data.actions[0])) and browsed[0].facts["action"]
    mode.choose("imagined")  # type: ignore[attr-defined]
    assert mode.step(None).action == dreams[2].action


@pytest.mark.usefixtures("metaworld_here")
def test_a_robots_arm_is_played_and_dreamt() -> None:
    small = CONFIGS["dreamerv2"]
    networks = replace(small, frame=(64, 64, 3), actions=4, frames=replace(small.frames, resolution=64))
    settings = PlayerSettings("greedy", 1, 0, context=1, epsilon=0.0)
    ours = PlaySource("drawer-close", protocol("metaworld_coarse"), DreamerAgent(networks, seed=1), settings, seed=5)
    mode = open_mode("agent", ours)
    shown = played(mode, 2)
    mode.close()
    assert shown[2].pictures["given"].shape == (64, 64, 3) and len(shown[2].facts["action"].split()) == 4
    assert not np.array_equal(*(each.pictures["screen"] for each in shown[:2]))
    dreamt = played(open_mode("dream-agent", ours), 2)
    assert dreamt[2].pictures["dream"].shape == (64, 64, 3) and np.shape(dreamt[2].action) == (4,)


def test_modes_in_which_a_person_plays_are_refused_by_one_line() -> None:
    assert set(modes_of(GAME)) == set(MODES) - set(ASKING) == {"agent", "dream-agent", "episodes"}
    assert modes_of("Pong") == tuple(MODES)
    for name in ASKING:
        with pytest.raises(
            UsageError,
            match=f"In mode '{name}' a person plays, and an action of ToyArm is 2 numbers, which no key says: choose "
            "--mode agent, dream-agent, episodes$",
        ):
            open_mode(name, source())
