"""Learning where an action is numbers: a world of the Dreamer family on a toy arm, from play to scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.stages import evaluate, learn
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice
from pipelines.training.step import update
from tests.models.dreamer.small_dreamer import CONFIGS
from tests.pipelines.environments.toy_arm import GAME, SIZE, STEPS, known
from tests.pipelines.stages.test_learn import rows, weights

NETWORKS = replace(CONFIGS["dreamerv2"], segment=5)


def config(**changes: Any) -> LearnConfig:
    return replace(
        LearnConfig(
            game=GAME,
            networks=NETWORKS,
            rounds=3,
            uses=(
                Practice("world", 4, updates=3, lr=3e-3, weight_decay=1e-6, clip=100.0),
                Practice("behaviour", 3, updates=2, start=1, lr=1e-3, weight_decay=1e-6, clip=100.0),
            ),
            collect=PlayTurns("arm", steps=30, environments=2, first_steps=40, first_epsilon=1.0, epsilon=0.1),
            check=CheckPlay(every=0, episodes=2, temperature=0.0, steps=24, protocol="arm"),
            loop=LoopConfig(precision="float32", log_every=1, save_seconds=0.0),
            sight_frames=8,
        ),
        **changes,
    )


@pytest.fixture(autouse=True)
def arm(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    with pytest.MonkeyPatch.context() as patch:
        known(patch)
        return learn.run(config(), Store(tmp_path_factory.mktemp("learned") / "store")).artefact


def test_it_leaves_its_networks_and_what_it_played(learned: Artefact) -> None:
    assert {"world_model.safetensors", "behaviour.safetensors", f"sheet_{GAME}.png"} <= set(learned.names())
    data = Trajectories(learned.path(FILE_NAME))
    assert data.game == GAME and data.action_names == () and len(data) == 100
    assert data.actions.dtype == np.float32 and data.actions.shape == (100, SIZE) and np.abs(data.actions).max() <= 1
    assert np.diff(data.episode_starts).max() == STEPS and not data.terminals.any()
    told = rows(learned)
    assert [row["steps_played"] for row in told if "turn" in row] == [40, 70, 100]
    assert {"kl", "image", "reward", "grad_norm_world_model"} <= {name for row in told for name in row}
    assert {"actor", "critic", "imagined_return", "entropy"} <= {name for row in told for name in row}


def test_a_killed_run_goes_on_to_the_bit(learned: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def dies(*args: Any) -> Any:
        made.append(0)
        if len(made) == 8:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr("pipelines.training.loop.update", dies)
    with pytest.raises(KeyboardInterrupt):
        learn.run(config(), Store(tmp_path))
    resumed = learn.run(config(), Store(tmp_path)).artefact
    assert weights(resumed) == weights(learned) and rows(resumed) == rows(learned)


def test_its_actor_is_scored_beside_chance(learned: Artefact) -> None:
    store = Store(learned.folder.parents[2])
    scored = evaluate.run(
        EvaluateConfig(
            game=GAME,
            agent=learned.ref,
            protocol="arm",
            planner="greedy",
            episodes=3,
            epsilon=0.0,
        ),
        store,
    ).artefact
    found = scored.manifest.metrics
    assert found["greedy"]["episodes"] == 3 and found["greedy"]["mean_length"] == STEPS
    assert 0 < found["random"]["mean"] < STEPS and {"best.mp4", "play.gif"} <= set(scored.names())
    with np.load(scored.path("actions.npz")) as actions:
        assert actions["greedy-0"].shape == (STEPS, SIZE) and actions["random-0"].dtype == np.float32


def test_stored_numbers_are_learned_from_without_play(learned: Artefact) -> None:
    store = Store(learned.folder.parents[2])
    offline = config(
        collect=PlayTurns(steps=0), trajectories=learned.ref, rounds=1, uses=(Practice("world", 4, updates=2),)
    )
    found = learn.run(offline, store).artefact
    assert found.manifest.metrics["sight"][GAME]["next_frame_error"] >= 0
