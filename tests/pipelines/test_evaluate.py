"""Scores: the same seed gives the same, every planner has its rows, and limits are said."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines import evaluate
from pipelines.configs.learn import EvaluateConfig
from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from tests.pipelines.conftest import TinyRun


def table(scores: Artefact) -> pd.DataFrame:
    return pd.read_parquet(scores.path("episodes.parquet"))


def test_every_planner_has_its_rows(tiny: TinyRun) -> None:
    scores = tiny.made["scores"]
    assert set(scores.names()) == {"episodes.parquet", "play.gif"}
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
    config, first = tiny_copy.plan.evaluate("Breakout"), tiny_copy.made["scores"]
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
    config = replace(tiny_copy.plan.evaluate("Breakout"), collected=None, beam_episodes=0, max_steps=3)
    metrics = evaluate.run(config, tiny_copy.store).artefact.manifest.metrics
    assert metrics["behaviour"] == {"mean": None, "overall_mean": None}


def test_a_checkpoint_and_its_tokenizer_must_be_named(tiny_copy: TinyRun) -> None:
    config = tiny_copy.plan.evaluate("Breakout")
    lacks = {"checkpoint": "need a checkpoint: name its artefact", "pretrained": "holds no tokenizer, name the"}
    for missing, words in lacks.items():
        with pytest.raises(UsageError, match=f"Scores of Breakout.* {words}"):
            evaluate.run(replace(config, **{missing: None}), tiny_copy.store)
