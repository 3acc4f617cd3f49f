"""Games recorded by gymnasium and Minari are, bit for bit, what this project sees when it plays the same actions."""

import json
import sys
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pytest

from pipelines.environments.atari.environment import grey, merged
from pipelines.environments.atari.games import minimal_actions
from pipelines.episodes.minari_sets import MinariEpisodes, is_there
from pipelines.episodes.recordings import RULES, RecordedEpisodes
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.stages import import_trajectories
from pipelines.stages.import_trajectories import ImportConfig, content_of
from tests.pipelines.episodes.recorded import assert_equal, collector_works, environment, play_here, record
from tests.pipelines.stages.helpers import nothing_left

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of authors and permalinks that no test has


def script(game: str, lengths: tuple[int, ...]) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.choice(minimal_actions(game), length).tolist() for length in lengths]


def read(path: Path, game: str) -> RecordedEpisodes:
    return RecordedEpisodes(MinariEpisodes(path, game))


@pytest.mark.parametrize(
    ("game", "data_format", "kwargs"),
    [
        ("Breakout", "hdf5", {}),
        ("SpaceInvaders", "arrow", {}),  # what flickers there is seen in one of two screens
        pytest.param("Pong", "parquet", {"obs_type": "grayscale"}, marks=pytest.mark.slow),
        pytest.param("Freeway", "hdf5", {"full_action_space": True}, marks=pytest.mark.slow),
        pytest.param("Carnival", "arrow", {}, marks=pytest.mark.slow),  # 214 lines
        pytest.param("AirRaid", "hdf5", {"obs_type": "grayscale"}, marks=pytest.mark.slow),
    ],
)
def test_screens_become_the_frames_of_play_here(tmp_path, game, data_format, kwargs) -> None:
    episodes = script(game, (37, 1, 18))
    path, seeds = record(tmp_path, environment(game, frameskip=1, **kwargs), episodes, 4, data_format)
    found = read(path, game)
    played = [play_here(game, *each) for each in zip(seeds, episodes, strict=True)]
    assert_equal(found, played, minimal_actions(game))
    assert found.raw_returns == [sum(each.points) for each in played]
    np.testing.assert_array_equal(found.frames(36, 39), found.frames(0, len(found))[36:39])  # over ends, and back


def test_frames_of_gymnasiums_preprocessing_stay_as_they_are(tmp_path) -> None:
    episodes = script("Pong", (30, 12))
    wrapped = gymnasium.wrappers.AtariPreprocessing(environment("Pong", frameskip=1), noop_max=0)
    path, seeds = record(tmp_path, wrapped, episodes, held=1)
    found = read(path, "Pong")
    assert_equal(
        found, [play_here("Pong", *each) for each in zip(seeds, episodes, strict=True)], minimal_actions("Pong")
    )
    assert found.facts["frames"] == "as recorded" and found.facts["wrappers"][-1] == "AtariPreprocessing"


@pytest.mark.parametrize("data_format", ["hdf5", pytest.param("arrow", marks=pytest.mark.slow)])
def test_screens_at_frame_skip_4_and_jpegs_are_what_the_library_reads(tmp_path, data_format) -> None:
    path, _ = record(tmp_path, environment("Breakout"), script("Breakout", (20, 5)), 1, data_format, jpeg=True)
    found = read(path, "Breakout")
    screens = [episode.observations[:-1] for episode in minari.MinariDataset(path).iterate_episodes()]
    wanted = [merged([grey(screen)], RULES) for screen in np.concatenate(screens)]
    np.testing.assert_array_equal(found.frames(0, len(found)), np.stack(wanted))
    assert found.facts["stored_as"] == f"{data_format}, JPEG" and "last screen of a step alone" in found.facts["frames"]


def test_a_game_over_is_a_terminal_and_ends_within_a_step(tmp_path) -> None:
    env = environment("Breakout", frameskip=1, max_num_frames_per_episode=None)
    env.reset(seed=0)
    steps = 0
    while not env.step([1, 1, 1, 1, 0, 0, 0, 0][steps % 8])[2]:
        steps += 1
    held = [1 if step % 2 == 0 else 0 for step in range(steps // 4 + 1)]
    with collector_works(tmp_path):
        collector = minari.DataCollector(env, jpeg_encoding=False)
        collector.reset(seed=0)
        over = [collector.step(held[step // 4])[2] for step in range(steps + 1)]
        path = Path(collector.create_dataset("atari/over-v0").storage.data_path)
    found = read(path, "Breakout")
    assert over[-1] and len(found) == len(held) and found.num_episodes == 1
    assert found.terminals.tolist() == [0] * (len(held) - 1) + [1] and not found.truncations.any()


def test_the_whole_way_through_the_store(store, tmp_path) -> None:
    path, _ = record(tmp_path, environment("Pong", frameskip=1), script("Pong", (40,)))
    config = ImportConfig(game="Pong", sha256=content_of(path.parent)[0], path=str(path.parent))
    made = import_trajectories.run(config, store).artefact
    back, source = Trajectories(made.path(FILE_NAME)), read(path, "Pong")
    np.testing.assert_array_equal(back.frames(0, 40), source.frames(0, 40))
    root = made.manifest.roots[0]
    assert (root["format"], root["data_set"], root["sha256"]) == ("minari", "atari/played-v3", config.sha256)
    assert root["environment"]["id"] == "ALE/Pong-v5" and root["environment"]["frameskip"] == root["frame_skip"] == 1
    assert root["stored_as"] == "hdf5" and made.manifest.metrics["mean_raw_return"] == sum(source.raw_returns)


# ---- what is refused ----


def changed(path: Path, **words: object) -> None:
    metadata = json.loads((path / "metadata.json").read_text())
    spec = json.loads(metadata["env_spec"])
    spec["kwargs"] |= words.pop("kwargs", {})  # type: ignore[operator]
    metadata |= {"env_spec": json.dumps(spec)} | words
    (path / "metadata.json").write_text(
        json.dumps({key: value for key, value in metadata.items() if value is not None})
    )


def halved(path: Path) -> None:
    with (path / "main_data.hdf5").open("r+b") as file:
        file.truncate((path / "main_data.hdf5").stat().st_size // 2)


def shortened(path: Path) -> None:
    with h5py.File(path / "main_data.hdf5", "r+") as file:
        file["episode_0/rewards"].resize((7,))


def linked(path: Path) -> None:
    with h5py.File(path / "main_data.hdf5", "r+") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = h5py.ExternalLink("/etc/passwd", "/x")


STACKED = json.dumps({"type": "Box", "dtype": "uint8", "shape": [4, 2, 2, 3], "low": 0, "high": 255})
BAD = {
    "other game": (lambda path: changed(path, kwargs={"game": "boxing"}), "holds Boxing, not Pong: say --game Boxing"),
    "no game": (lambda path: changed(path, kwargs={"game": "CartPole"}), "Unknown game 'CartPole'"),
    "no environment": (lambda path: changed(path, env_spec=None), "env_spec not stated"),
    "no space": (lambda path: changed(path, observation_space=None), "observation_space not stated"),
    "skip range": (lambda path: changed(path, kwargs={"frameskip": [2, 5]}), r"states frameskip .2, 5."),
    "skip 2": (lambda path: changed(path, kwargs={"frameskip": 2}), "at frame skip 2, readable are 1 and 4"),
    "other set": (
        lambda path: changed(path, kwargs={"full_action_space": True}),
        "has 6 actions with full_action_space",
    ),
    "bad json": (lambda path: (path / "metadata.json").write_text('{"data_format": '), "does not tell the set"),
    "stacked": (lambda path: changed(path, observation_space=STACKED), "Minari opens|single frames, not stacked"),
    "old": (lambda path: changed(path, minari_version="9.9"), "no data set that Minari opens"),
    "cut": (halved, "cannot be read in episode 0"),
    "short": (shortened, "cannot be read in episode 0"),
    "link": (linked, "points elsewhere"),
}


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minari")
    return record(folder, environment("Pong", frameskip=1), script("Pong", (9, 2)))[0]


@pytest.mark.parametrize("case", BAD)
def test_bad_sets_are_one_line_and_leave_nothing(store, tmp_path, pong, case) -> None:
    path = tmp_path / "set"
    path.mkdir()
    for each in pong.iterdir():
        (path / each.name).write_bytes(each.read_bytes())
    damage, words = BAD[case]
    damage(path)
    with pytest.raises(WorldlineError, match=words) as caught:
        config = ImportConfig(game="Pong", sha256=content_of(path)[0], path=str(path), format="minari")
        import_trajectories.run(config, store)
    assert "\n" not in str(caught.value) and nothing_left(store, "imported_trajectories")


def test_actions_that_change_within_a_step_are_refused(tmp_path) -> None:
    path, _ = record(tmp_path, environment("Pong", frameskip=1), [[0, 0, 0, 0, 3, 3, 4, 4]], held=1)
    with pytest.raises(
        WorldlineError, match=r"has actions 2, 2, 3, 3 in frames 4 to 7 of episode 0, .*hold every action"
    ):
        read(path, "Pong")


def test_actions_that_the_game_does_not_have_are_named(tmp_path) -> None:
    path, _ = record(tmp_path, environment("Freeway", frameskip=1, full_action_space=True), [[0, 2, 10]])
    with pytest.raises(WorldlineError, match="has UPFIRE in episode 0, which is none of Freeway's own"):
        read(path, "Freeway")


def test_colours_that_do_not_tell_greys_apart_are_refused(tmp_path) -> None:
    path, _ = record(tmp_path, environment("AirRaid", frameskip=1), [[0]])
    with pytest.raises(WorldlineError, match="do not tell AirRaid's greys apart: record it in grey"):
        read(path, "AirRaid")


def test_without_the_library_the_extra_is_named(pong, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    assert is_there(pong) and not is_there(pong.parents[3])
    with pytest.raises(UsageError, match=r"pip install 'worldline\[minari\]'"):
        MinariEpisodes(pong, "Pong")
