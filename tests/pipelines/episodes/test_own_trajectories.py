"""An artefact's trajectories.h5 comes in for others: clipped, its unfinished episode cut, nothing believed of it."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.batches.sampler import SampledSegments, Sampler
from pipelines.environments.actions import own_actions
from pipelines.episodes.experience import STEP, Experience, Game
from pipelines.episodes.own_trajectories import OwnTrajectories
from pipelines.episodes.trajectories import FLAT, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.stages import segment
from pipelines.stages.import_trajectories import ImportConfig, content_of, format_of
from pipelines.stages.import_trajectories import run as bring
from pipelines.stages.segment import SegmentConfig
from pipelines.store.files import sha256_of
from pipelines.store.store import Store
from tests.fakes import spec
from tests.pipelines.stages.helpers import nothing_left

SHAPE = (12, 10)
REWARDS = [0, 7, -3, 0, 0.5, 0, 0, 2, 0, 0]


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """What an agent played in two environments: 7 and 3 steps, an end behind step 4; the last episodes go on."""
    experience = Experience(tmp_path / "experience", "Pong", SHAPE, [Game(1), Game(2)])
    for row, part in enumerate((slice(0, 7), slice(7, 10))):
        steps = np.zeros(part.stop - part.start, STEP)
        steps["rewards"], steps["actions"] = REWARDS[part], np.arange(len(steps)) % 6
        if row == 0:
            steps["terminals"][3] = 1
        experience.add(row, frames_of(len(steps), row), steps)
    experience.commit([Game(1), Game(2)])
    experience.pack_into(tmp_path / "trajectories.h5")
    return tmp_path / "trajectories.h5"


def frames_of(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_an_unfinished_episode_has_no_end_where_it_was_played(played: Path) -> None:
    """Whoever samples it sees no game over that was none, and the rest of a segment is padding."""
    own = Trajectories(played)
    assert own.episode_starts.tolist() == [0, 4, 7, 10]
    assert np.flatnonzero(own.terminals).tolist() == [3] and not own.truncations.any()
    source = SampledSegments(Sampler(own, "world", 64, 0, length=6))
    batch = source.batch(0)
    assert batch.ends_BT.sum(1).max() == 1 and not batch.mask_BT.all(1).any()
    of_unfinished = batch.mask_BT.sum(1) <= 3
    ended = (batch.ends_BT.sum(1) == 1)[of_unfinished]
    assert ended.any() and not ended.all()


def test_imported_it_is_cut_there_and_can_be_segmented(played: Path, store: Store) -> None:
    assert format_of(played) == "trajectories"
    config = ImportConfig(game="Pong", sha256=content_of(played)[0], path=str(played))
    made = bring(config, store).artefact
    own, found = Trajectories(played), Trajectories(made.path("trajectories.h5"))
    assert found.episode_starts.tolist() == [0, 4, 7, 10]
    assert np.array_equal(found.frames(0, 10), own.frames(0, 10)) and np.array_equal(found.actions, own.actions)
    assert found.rewards.tolist() == np.sign(REWARDS).tolist() and own.rewards.tolist() == REWARDS
    assert np.flatnonzero(found.terminals).tolist() == [3] and np.flatnonzero(found.truncations).tolist() == [6, 9]
    assert all(check.passed for check in made.manifest.checks) and len(made.manifest.checks) == 3
    root = made.manifest.roots[0]
    assert (root["format"], root["unfinished_episodes"]) == ("trajectories", 2) and "exported_ref" not in root
    assert made.manifest.metrics["mean_raw_return"] == round((4 + 0.5 + 2) / 3, 4)
    cut = segment.run(SegmentConfig("Pong", made.ref, length=8, stride=4), store).artefact
    assert cut.manifest.counts["episodes"] == 3 and all(check.passed for check in cut.manifest.checks)


def test_it_says_of_which_artefact_it_is_a_part(played: Path, store: Store) -> None:
    def build(draft) -> None:  # type: ignore[no-untyped-def]
        draft.path("trajectories.h5").write_bytes(played.read_bytes())

    whose = store.produce(spec("world_model_agent", "Pong"), build).artefact
    file = whose.path("trajectories.h5")
    assert OwnTrajectories(file, "Pong").lineage == {"ref": str(whose.ref), "manifest_sha256": whose.digest}
    played.with_name("manifest.json").write_text(json.dumps({"files": [{"path": played.name, "sha256": "0" * 64}]}))
    assert not OwnTrajectories(played, "Pong").lineage, "a manifest of another file"
    assert sha256_of(file) == sha256_of(played)


def with_file(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def alter(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return alter


def put(name: str, values: object) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return with_file(change)


def link(file: h5py.File) -> None:
    del file["rewards"]
    file["rewards"] = h5py.ExternalLink("elsewhere.h5", "rewards")


def rename(file: h5py.File) -> None:
    file.attrs["actions"] = ["NOOP", "FIRE"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "nor JOWA|is no|in JOWA's"),
        (put("actions", np.full(10, 300)), "actions .* do not fit uint8"),
        (put("rewards", np.full(10, np.nan, np.float32)), "fit|no finite number"),
        (put("terminals", np.full(10, 2, np.uint8)), "terminals holds 2, only 0 and 1"),
        (put("episode_starts", np.array([0, 4, 4, 10])), "do not follow each other"),
        (put("episode_starts", np.array([0.5, 4, 10])), "do not fit int64"),
        (put("truncations", np.zeros(9, np.uint8)), r"truncations has \(9,\) values for 10 rows"),
        (put("observations", np.zeros((10, 4, 4))), "observations are float64, not uint8"),
        (put("observations", np.zeros((9, 4, 4), np.uint8)), "arrays of different lengths"),
        (with_file(link), "rewards points elsewhere"),
        (with_file(rename), "numbers the actions NOOP, FIRE, and Pong has NOOP, FIRE, RIGHT"),
        (with_file(lambda file: file.attrs.pop("game")), "game"),
        (with_file(lambda file: file.pop("actions")), "actions"),
    ],
)
def test_what_no_writer_makes_is_one_line_and_leaves_nothing(
    played: Path, store: Store, damage: Callable[[Path], None], words: str
) -> None:
    damage(played)
    config = ImportConfig(game="Pong", sha256=content_of(played)[0], path=str(played))
    with pytest.raises((WorldlineError, UsageError), match=words) as error:
        bring(config, store)
    assert "\n" not in str(error.value) and nothing_left(store, ImportConfig.STAGE)


def test_another_game_is_named(played: Path) -> None:
    with pytest.raises(UsageError, match="holds Pong, not Qbert: say --game Pong"):
        OwnTrajectories(played, "Qbert")
    assert OwnTrajectories(played, "Pong").action_names == own_actions("Pong")
    assert {*FLAT} <= {*vars(OwnTrajectories(played, "Pong"))}
