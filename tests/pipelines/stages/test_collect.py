"""Collection with the real emulator: what the logs hold, that a seed repeats them, and how it fails."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.environments.atari.games import PROTOCOLS, rom_md5
from pipelines.errors import UsageError
from pipelines.sources.dqn_replay.listing import ALL_KINDS, file_name, log_folder
from pipelines.stages import collect
from pipelines.stages.collect import CollectConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store

CONFIG = CollectConfig("Breakout", agents=2, steps=420, capacity=200, seed=3)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return collect.run(CONFIG, Store(tmp_path_factory.mktemp("store"))).artefact


def load(artefact: Artefact, agent: int, kind: str, log: int) -> NDArray:
    path = artefact.path(f"{log_folder(artefact.manifest.subject, agent)}/{file_name(kind, log)}")
    with gzip.open(path) as file:
        return np.load(file, allow_pickle=False)


def test_every_log_holds_all_kinds_of_equal_length(collected: Artefact) -> None:
    logs = collected.manifest.counts["logs"] // CONFIG.agents
    assert logs >= 3
    assert len(collected.names()) == CONFIG.agents * logs * len(ALL_KINDS)
    for agent in (1, 2):
        for log in range(logs):
            assert load(collected, agent, "observation", log).shape == (200, 84, 84)
            assert set(np.unique(load(collected, agent, "action", log))) <= {0, 1, 2, 3}
            assert set(np.unique(load(collected, agent, "reward", log))) <= {0.0, 1.0}
            assert set(np.unique(load(collected, agent, "terminal", log))) <= {0, 1}


def test_agents_play_different_episodes(collected: Artefact) -> None:
    assert (load(collected, 1, "action", 0) != load(collected, 2, "action", 0)).any()


def test_the_manifest_says_where_the_data_come_from(collected: Artefact) -> None:
    (root,) = collected.manifest.roots
    assert root["rom_md5"] == rom_md5("Breakout")
    assert (root["policy"], root["sticky"], root["epsilon"]) == ("script", 0.25, [1.0, 0.05])
    assert len(set(root["emulator_seeds"])) == 2
    assert {"game", "ale_py", "policy_seed"} <= set(root)


def test_returns_and_episodes_agree_with_the_logged_rows(collected: Artefact) -> None:
    manifest = collected.manifest
    assert manifest.counts["frames"] == 840
    assert manifest.counts["episodes"] == sum(part["episodes"] for part in manifest.metrics["fifths"]) > 0
    assert len(manifest.metrics["fifths"]) == 5
    first_laps = sum(int(load(collected, agent, "terminal", 0)[:-1].sum()) for agent in (1, 2))
    assert 0 < first_laps <= manifest.counts["episodes"]


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    short = replace(CONFIG, steps=150, capacity=64)
    one, again, other = (
        collect.run(replace(short, seed=seed), Store(tmp_path / str(number))).artefact.manifest
        for number, seed in enumerate((3, 3, 4))
    )
    assert one.files == again.files
    assert (one.metrics, one.roots) == (again.metrics, again.roots)
    assert one.files != other.files


def test_a_random_action_lasts_as_long_as_it_is_held(tmp_path: Path) -> None:
    held = replace(CONFIG, steps=150, capacity=64, policy="random", hold=5)
    made = collect.run(held, Store(tmp_path)).artefact
    blocks = load(made, 1, "action", 0)[3:63].reshape(-1, 5)  # the ring begins with padding of its stacks of 4
    assert (blocks == blocks[:, :1]).all() and len(np.unique(blocks)) == 4
    assert made.manifest.roots[0]["hold"] == 5


def test_a_second_run_finds_the_first(collected: Artefact) -> None:
    report = collect.run(CONFIG, Store(collected.folder.parents[2]))
    assert report.skipped
    assert report.artefact.digest == collected.digest


def test_a_game_without_a_script_is_played_at_random_and_says_so(tmp_path: Path) -> None:
    config = CollectConfig("Skiing", agents=1, steps=30, capacity=16)
    manifest = collect.run(config, Store(tmp_path)).artefact.manifest
    assert manifest.roots[0]["policy"] == "random"
    assert manifest.roots[0]["epsilon"] == [1.0, 1.0]
    assert manifest.metrics["behaviour_return"] is None
    assert [(check.name, check.passed) for check in manifest.checks] == [("whole_episodes", False)]


def test_the_time_limit_is_logged_as_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "sticky", replace(PROTOCOLS["sticky"], max_frames=40))
    artefact = collect.run(CollectConfig("Pong", agents=1, steps=30, capacity=50), Store(tmp_path)).artefact
    terminal = load(artefact, 1, "terminal", 0)
    assert np.nonzero(terminal)[0].tolist() == [12, 25, 38]  # 3 blank rows and 10 steps each


def test_an_unknown_game_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown game 'Brakeout': did you mean 'Breakout'\?"):
        collect.run(CollectConfig("Brakeout"), Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_exploration_falls_over_its_share_of_the_run_and_stays() -> None:
    config = CollectConfig("Pong", steps=101, epsilon_share=0.5)
    assert collect._epsilon(config, 0) == 1.0
    assert collect._epsilon(config, 25) == pytest.approx(1.0 - 0.95 * 25 / 49.5)
    assert [collect._epsilon(config, step) for step in (50, 75, 100)] == pytest.approx([0.05] * 3)
    assert collect._epsilon(CollectConfig("Pong", steps=101), 100) == pytest.approx(0.05)
    with pytest.raises(UsageError, match=r"collect.epsilon_share 0.0 is impossible"):
        CollectConfig("Pong", epsilon_share=0.0)
