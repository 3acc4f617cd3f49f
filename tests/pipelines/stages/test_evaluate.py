"""Scores: the same seed gives the same, every planner has its rows, and limits are said."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipelines.environments.atari import roms
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.player_settings import SearchConfig
from pipelines.graph.plan import Step
from pipelines.stages import evaluate, train
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.store.artefact import Artefact
from pipelines.training import checkpoints
from pipelines.training.device import pick
from tests import fakes
from tests.pipelines.conftest import TinyRun


def table(scores: Artefact) -> pd.DataFrame:
    return pd.read_parquet(scores.path("episodes.parquet"))


def test_every_planner_has_its_rows(tiny: TinyRun) -> None:
    scores = tiny.made["scores"]
    films = {"play.gif", "best.mp4", "worst.mp4"}  # of two episodes, none lies between
    assert set(scores.names()) == {"episodes.parquet", "episodes.jsonl", "actions.npz"} | films
    rows = table(scores)
    assert rows.groupby("planner").size().to_dict() == {"beam": 1, "greedy": 2, "random": 2}
    assert (rows[rows.planner == "beam"].length <= 3).all()
    assert (rows[rows.planner != "beam"].length <= 30).all()
    assert set(rows.ended) == {"limit"}
    metrics = scores.manifest.metrics
    assert metrics["beam"]["max_steps"] == 3
    assert "max_steps" not in metrics["greedy"]
    for planner, part in rows.groupby("planner"):
        assert metrics[planner]["mean"] == pytest.approx(part["return"].mean())
        assert metrics[planner]["episodes"] == len(part)
    assert scores.manifest.counts == {"episodes": 5, "steps": int(rows.length.sum())}


def test_the_manifest_says_under_which_rules_and_next_to_whom(tiny: TinyRun) -> None:
    manifest = tiny.made["scores"].manifest
    (root,) = manifest.roots
    assert (root["game"], root["protocol"], root["sticky"], len(root["rom_md5"])) == ("Breakout", "sticky", 0.25, 32)
    assert (root["rom"], root["replays_rom"], root["noop_max"], root["max_steps"]) == ("shipped", True, 0, 27_000)
    assert root["emulator"].startswith("ale-py 0.")
    assert manifest.metrics["greedy"]["settings"] == {"context": 2, "epsilon": 0.001}
    assert manifest.metrics["beam"]["settings"] == {
        "context": 2, "epsilon": 0.001, "width": 2, "horizon": 2, "leaf": "max", "sample": False,
    }  # fmt: skip
    collected = tiny.made["collected_replay"].manifest.metrics
    assert manifest.metrics["behaviour"]["overall_mean"] == collected["mean_return"]
    (check,) = manifest.checks
    assert check.name == EvaluateConfig.CHECKS[0]
    assert check.passed == (manifest.metrics["greedy"]["mean"] > manifest.metrics["random"]["mean"])


def test_the_film_shows_every_second_step(tiny: TinyRun) -> None:
    with Image.open(tiny.made["scores"].path("play.gif")) as film:
        assert (film.size, film.info["duration"]) == ((168, 168), 130)  # GIF counts hundredths of a second
        assert 1 < film.n_frames <= 15  # equal neighbours may be merged


def test_the_same_seed_gives_the_same_scores_and_another_does_not(tiny_copy: TinyRun) -> None:
    config, first = tiny_copy.plan.config(Step("scores", "Breakout")), tiny_copy.made["scores"]
    before = table(first)
    shutil.rmtree(first.folder)
    again = evaluate.run(config, tiny_copy.store)
    assert not again.skipped
    assert table(again.artefact).equals(before)
    assert again.artefact.manifest.metrics == first.manifest.metrics
    other = evaluate.run(replace(config, seed=9, beam_episodes=0), tiny_copy.store).artefact
    assert not np.array_equal(table(other).seed, before.seed[before.planner != "beam"])
    assert set(table(other).planner) == {"greedy", "random"}
    assert "beam" not in other.manifest.metrics


def test_without_collected_replay_the_behaviour_is_unknown(tiny_copy: TinyRun) -> None:
    config = replace(tiny_copy.plan.config(Step("scores", "Breakout")), collected=None, beam_episodes=0, max_steps=3)
    metrics = evaluate.run(config, tiny_copy.store).artefact.manifest.metrics
    assert metrics["behaviour"] == {"mean": None, "overall_mean": None}


def changed(tiny_copy: TinyRun, **changes: object) -> EvaluateConfig:
    """The tiny evaluation with nothing beside its planner."""
    return replace(tiny_copy.plan.config(Step("scores", "Breakout")), beam_episodes=0, random_episodes=1, **changes)


def test_another_search_than_a_beam_plays_beside_the_planner(tiny_copy: TinyRun) -> None:
    search = SearchConfig(leaf="none", gain="expected", hold=2)
    config = replace(changed(tiny_copy, episodes=2, max_steps=4), beam_episodes=1, beside="rollouts", search=search)
    scores = evaluate.run(config, tiny_copy.store).artefact
    assert set(table(scores).planner) == {"greedy", "rollouts", "random"}
    told = scores.manifest.metrics["rollouts"]["settings"]
    assert (told["leaf"], told["gain"], told["hold"]) == ("none", "expected", 2)
    with pytest.raises(UsageError, match="plays rollouts twice"):
        replace(config, planner="rollouts")


def lines(scores: Artefact) -> list[dict]:
    return [json.loads(line) for line in scores.path("episodes.jsonl").read_text().splitlines()]


def test_every_episode_has_its_line_and_plays_again_from_its_actions(tiny: TinyRun) -> None:
    scores = tiny.made["scores"]
    rows = {(row["planner"], row["episode"]): row for row in lines(scores)}
    wanted = {(row.planner, row.episode): row for row in table(scores).itertuples()}
    assert rows.keys() == wanted.keys()
    for place, row in rows.items():
        assert (row["length"], row["seed"]) == (wanted[place].length, wanted[place].seed)
        assert row["protocol"] == "sticky" and row["emulator"] and row["rom_md5"]
    assert rows["beam", 0]["settings"] == scores.manifest.metrics["beam"]["settings"]
    assert rows["random", 0]["settings"] == {}
    with np.load(scores.path("actions.npz")) as actions:
        assert {name: len(actions[name]) for name in actions} == {
            f"{p}-{n}": row["length"] for (p, n), row in rows.items()
        }


@pytest.mark.parametrize(
    ("planner", "search"),
    [
        ("mcts", SearchConfig(simulations=3)),
        pytest.param("beam", SearchConfig(leaf="mean", sample=True), marks=pytest.mark.slow),
    ],
    ids=["mcts", "sampled beam"],
)
def test_how_many_play_at_once_changes_nothing(tiny_copy: TinyRun, planner: str, search: SearchConfig) -> None:
    config = changed(tiny_copy, planner=planner, search=search, episodes=3, max_steps=4, epsilon=0.5, seed=5)
    one = evaluate.run(replace(config, envs=1), tiny_copy.store).artefact
    before, actions = table(one), np.load(one.path("actions.npz"))
    shutil.rmtree(one.folder)
    two = evaluate.run(replace(config, envs=2), tiny_copy.store).artefact
    assert two.ref == one.ref and table(two).equals(before)
    again = np.load(two.path("actions.npz"))
    assert all((again[name] == actions[name]).all() for name in actions.files)
    assert two.manifest.metrics[planner]["settings"]["leaf"] == search.leaf
    assert two.manifest.checks[0].detail.startswith(planner)


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from pipelines.stages import evaluate
from pipelines.evaluation.session import EpisodeLog
from pipelines.graph.experiment import find
from pipelines.graph.plan import Plan, Step
from pipelines.store.store import Store

home, kept, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
add = EpisodeLog.add

def add_and_die(log, *rest):
    global kept
    add(log, *rest)
    kept -= 1
    if not kept:
        os.kill(os.getpid(), getattr(signal, how))

EpisodeLog.add = add_and_die
plan = Plan(find(home / "experiments", "tiny").recipe)
config = plan.config(Step("scores", "Breakout"))
evaluate.run(replace(config, seed=7, episodes=4, max_steps=8, envs=1), Store(home / "store"))
"""


@pytest.mark.parametrize(("how", "code"), [("SIGKILL", -9), pytest.param("SIGINT", -2, marks=pytest.mark.slow)])
def test_a_killed_evaluation_goes_on_with_what_is_missing(
    tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch, how: str, code: int
) -> None:
    config = replace(tiny_copy.plan.config(Step("scores", "Breakout")), seed=7, episodes=4, max_steps=8)
    whole = evaluate.run(config, tiny_copy.store).artefact
    wanted = table(whole)
    shutil.rmtree(whole.folder)
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    found, _, err = fakes.finish(fakes.start(KILLED, tiny_copy.home, 3, how), timeout=100)
    assert found == code, err
    if how == "SIGINT":
        assert "Interrupted: 3 finished episodes of Breakout are kept" in err
    (log,) = (tiny_copy.store.root / ".scratch").rglob("episodes.jsonl")
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["planner"], row["episode"]) for row in kept] == [("greedy", 0), ("greedy", 1), ("greedy", 2)]
    with log.open("a") as file:
        file.write('{"planner": "greedy", "epis')  # what a kill in the middle of a line leaves
    played: list[tuple[str, list[int]]] = []
    real = evaluate.play
    monkeypatch.setattr(
        evaluate, "play", lambda table, *rest: (played.append((rest[1], list(table.seeds))), real(table, *rest))
    )
    again = evaluate.run(config, tiny_copy.store).artefact
    assert played[0] == ("Play Breakout, greedy", [3])
    assert table(again).equals(wanted)
    assert len(lines(again)) == len(wanted)


def both(tiny_copy: TinyRun, **changes: object) -> list[EvaluateConfig]:
    """Breakout and, with the same checkpoint, Pong, which has other legal actions."""
    config = changed(tiny_copy, episodes=4, max_steps=4, epsilon=0.3, seed=5, **changes)
    return [config, replace(config, game="Pong", collected=None)]


@pytest.mark.slow
@pytest.mark.parametrize("planner", ["beam", "mcts"])
def test_games_planned_in_one_batch_score_as_each_alone(tiny_copy: TinyRun, planner: str) -> None:
    configs = both(
        tiny_copy, planner=planner, search=SearchConfig(simulations=3) if planner == "mcts" else SearchConfig()
    )
    alone = [evaluate.run(config, tiny_copy.store).artefact for config in configs]
    wanted = [(lines(each), each.manifest.metrics) for each in alone]
    for each in alone:
        shutil.rmtree(each.folder)
    together = [play().artefact for play in evaluate.run_all(configs, tiny_copy.store, together=2)]
    assert [each.ref for each in together] == [each.ref for each in alone]
    for each, (rows, metrics) in zip(together, wanted, strict=True):
        found = each.manifest.metrics
        assert found.pop("together") == "Breakout, Pong"
        assert min(found.pop("together_seconds"), found.pop("together_cpu_seconds")) > 0
        assert found == metrics
        place = lambda row: (row["planner"], row["episode"])  # noqa: E731
        assert sorted(lines(each), key=place) == sorted(rows, key=place)  # they end in another order
    assert not list((tiny_copy.store.root / ".scratch").iterdir())


@pytest.mark.slow
def test_games_share_the_networks_of_a_process(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    real = checkpoints.load_agent
    monkeypatch.setattr(
        checkpoints, "load_agent", lambda found, *rest: (loaded.append(found.folder), real(found, *rest))[1]
    )
    for config, play in zip(both(tiny_copy), evaluate.run_all(both(tiny_copy), tiny_copy.store), strict=True):
        report = play()
        assert (report.artefact.ref, report.skipped) == (config.spec().ref, False)
        assert "together" not in report.artefact.manifest.metrics
    assert len(loaded) == 1
    assert all(play().skipped for play in evaluate.run_all(both(tiny_copy), tiny_copy.store, together=2))


KILLED_TOGETHER = (
    KILLED.partition("plan = Plan")[0]
    + """
from types import SimpleNamespace
from tests.pipelines.stages.test_evaluate import both
plan = Plan(find(home / "experiments", "tiny").recipe)
[play() for play in evaluate.run_all(both(SimpleNamespace(plan=plan)), Store(home / "store"), together=2)]
"""
)


@pytest.mark.slow
def test_a_worker_killed_amid_several_games_loses_only_what_it_was_playing(tiny_copy: TinyRun) -> None:
    configs = both(tiny_copy)
    whole = [play().artefact for play in evaluate.run_all(configs, tiny_copy.store)]
    wanted = [table(each) for each in whole]
    for each in whole:
        shutil.rmtree(each.folder)
    code, _, err = fakes.finish(fakes.start(KILLED_TOGETHER, tiny_copy.home, 5, "SIGKILL"), timeout=100)
    assert code == -9, err
    logs = list((tiny_copy.store.root / ".scratch").rglob("episodes.jsonl"))
    assert len(logs) == 2 and sum(len(log.read_text().splitlines()) for log in logs) == 5
    again = [play().artefact for play in evaluate.run_all(configs, tiny_copy.store, together=2)]
    assert all(table(each).equals(before) for each, before in zip(again, wanted, strict=True))


def test_what_cannot_be_played_is_refused_in_a_line(
    tiny_copy: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def refused(words: str, **changes: object) -> None:
        with pytest.raises(WorldlineError, match=words) as error:
            evaluate.run(changed(tiny_copy, **changes), tiny_copy.store)
        assert "\n" not in str(error.value)

    refused("Scores of Breakout need an agent: name its artefact", agent=None)
    refused(r"tokens/.* holds no agent \(agent\.json\)", agent=tiny_copy.made["tokens"].ref)
    refused("context of 7 steps and a beam horizon of 2 is more than the 8 steps", planner="beam", context=7)
    refused("context of 9 steps is more than the 8 steps", context=9)
    refused(r"The ROM of Breakout has md5 .*, not 0{32}.*name the ROM with --rom-dir", rom_md5="0" * 32)
    refused(f"ROM folder {tmp_path} has no Breakout of md5", rom_dir=str(tmp_path))
    refused("evaluate.compile=true is for GPUs and this run has none", compile=True, seed=9)


@pytest.mark.slow
def test_a_checkpoint_kept_on_the_way_plays(tiny_copy: TinyRun) -> None:
    training = tiny_copy.plan.config(Step("world_action_model"))
    keeping = replace(training, loop=replace(training.loop, checkpoint_every=2))
    made = train.run(keeping, tiny_copy.store).artefact
    config = changed(tiny_copy, agent=made.ref, seed=31)

    def weights(step: int) -> dict[str, torch.Tensor]:
        return checkpoints.load_agent(made, pick("float32"), step).networks["model"].state_dict()

    for step, name in ((0, "model.safetensors"), (2, "checkpoints/step-2/model.safetensors")):
        saved = load_file(made.path(name))
        assert all(torch.equal(value, saved[key]) for key, value in weights(step).items())
    assert not torch.equal(weights(0)["pos_emb.weight"], weights(2)["pos_emb.weight"])
    scores = evaluate.run(replace(config, step=2), tiny_copy.store).artefact
    assert scores.manifest.metrics["greedy"]["settings"]["step"] == 2
    with pytest.raises(UsageError, match=r"keeps no checkpoint of step 3: choose of 2, 4, or set evaluate\.step=0"):
        evaluate.run(replace(config, step=3), tiny_copy.store)
    with pytest.raises(UsageError, match=r"keeps none \(loop\.checkpoint_every\), or set evaluate\.step=0"):
        evaluate.run(changed(tiny_copy, step=2), tiny_copy.store)


def test_a_rom_that_is_not_ale_pys_must_be_named_by_its_md5(
    tiny_copy: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No legacy ROM may lie here: ale-py's own, twice in a row as cartridges of twice the size hold it, stands for one.
    other = roms.shipped("Breakout").path.read_bytes() * 2
    (tmp_path / "mine.bin").write_bytes(other)
    md5 = hashlib.md5(other).hexdigest()
    monkeypatch.setitem(roms._REPLAY_MD5, "Breakout", md5)
    with pytest.raises(UsageError, match=f"set rom_md5={md5} beside rom_dir"):
        evaluate.run(changed(tiny_copy, rom_dir=str(tmp_path)), tiny_copy.store)
    config = changed(tiny_copy, rom_dir=str(tmp_path), rom_md5=md5)
    (root,) = evaluate.run(config, tiny_copy.store).artefact.manifest.roots
    assert (root["rom_md5"], root["rom"], root["replays_rom"]) == (md5, "yours", True)
