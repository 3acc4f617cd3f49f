"""Crafter's tables: who stands in which, by what, and that nothing of it is compared with Atari."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.environments.crafter.game import ACHIEVEMENTS, GAME
from pipelines.environments.rollout import Episode
from pipelines.evaluation.session import episode_table, summary
from pipelines.leaderboard.agent_scores import gather, samples
from pipelines.leaderboard.crafter import RANDOM, Crafter, Entrant, crafter
from pipelines.leaderboard.score_row import score_rows
from pipelines.plots.achievements import draw_rates
from pipelines.stages import report
from pipelines.stages.report import ReportConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.leaderboard import board

Named = tuple[str, Artefact]


def episodes(count: int, skill: float, seed: int) -> list[Episode]:
    """Each reaches every achievement with the chance `skill`."""
    draws = np.random.default_rng(seed).random((count, len(ACHIEVEMENTS))) < skill
    return [
        Episode(number, seed * 1000 + number, float(row.sum()) - 0.9, 0.0, 99, "terminated", b"",
                {name: int(hit) for name, hit in zip(ACHIEVEMENTS, row, strict=True)})
        for number, row in enumerate(draws)
    ]  # fmt: skip


def scored(store: Store, skill: float, protocol: str = "crafter_1m", steps: int = 1_000_000, **more: Any) -> Artefact:
    """An agent that played so many steps, or was imported, and its evaluation."""
    seed, count = more.get("seed", 0), more.get("count", 16)
    config = {"game": GAME, "seed": seed, "skill": skill}
    stage = more.get("stage", "world_model_agent")
    agent = board.make(store, stage, GAME, config=config, counts={"frames": steps})
    noise = more.get("noise", "0.4.5.1")
    emulator = f"crafter 1.8.3 with opensimplex {noise}" if noise else ""
    played = {"actor": episodes(count, skill, 10 + seed), "random": episodes(8, 0.1, 5)}

    def write(draft: Any) -> None:
        episode_table(played).to_parquet(draft.path("episodes.parquet"))

    return board.make(
        store, "scores", GAME, (agent.ref,), write,
        config={"game": GAME, "protocol": protocol, "planner": "actor", "episodes": count},
        roots=[{"game": GAME, "protocol": protocol, "emulator": emulator}],
        metrics={name: summary(each) for name, each in played.items()},
    )  # fmt: skip


def tables(store: Store, *named: Named) -> Crafter:
    pooled = samples(gather(named, store))
    found = crafter(pooled, score_rows(pooled))
    assert found is not None
    return found


def row(found: Crafter, label: str, table: int = 0) -> Entrant:
    return next(each for each in found.tables[table].rows if each.label.startswith(label))


def test_ours_stand_beside_who_had_as_much_play(store: Store) -> None:
    found = tables(store, ("good", scored(store, 0.9)), ("weak", scored(store, 0.2)))
    (table,) = found.tables
    assert table.title == "crafter_1m: at most 1,000,000 steps of play"
    assert [each.label for each in table.rows[:4]] == ["good, actor", "Human experts", "weak, actor", RANDOM]
    assert [each.rank for each in table.rows[:4]] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert [each.label for each in table.rows[4:6]] == ["Curious Replay", "PPO (ResNet)"] and not table.rows[4].rank
    assert row(found, "DreamerV3").found is None and row(found, "DreamerV3").printed["score"] == "14.5±1.6"
    good = row(found, "good").found
    assert good is not None and good.score.low is not None and good.score.low < good.score.value
    assert row(found, "good").steps == 1_000_000 and row(found, "good").reached == 22
    assert any("Delta-IRIS" in text for text in found.left_out)


def test_training_seeds_of_an_agent_are_one_row(store: Store) -> None:
    found = tables(store, ("a", scored(store, 0.5, seed=1)), ("b", scored(store, 0.5, seed=2)))
    assert (row(found, "a + b").seeds, row(found, "a + b").episodes) == (2, 32)


def test_budgets_are_kept_apart_and_kept(store: Store) -> None:
    found = tables(
        store,
        ("one", scored(store, 0.5)),
        ("more", scored(store, 0.6, steps=1_000_001)),
        ("ten", scored(store, 0.7, "crafter_10m", 10_000_000)),
        ("noisy", scored(store, 0.8, "crafter_1m+noise0.1")),
    )
    assert [table.protocol for table in found.tables] == ["crafter_1m", "crafter_10m"]
    assert row(found, "more").unranked == "it learned from 1,000,001 steps of play, more than 1,000,000"
    labels = [each.label for each in found.tables[1].rows]
    assert "Human experts" in labels and "DreamerV3" not in labels, "of another budget"
    assert "noisy: it was evaluated under protocol crafter_1m+noise0.1, under noise" in found.left_out


def test_an_agent_whose_play_nobody_recorded_is_ranked_under_no_budget(store: Store) -> None:
    released = {"stage": "imported", "steps": 0}
    found = tables(store, ("own", scored(store, 0.5)), ("theirs", scored(store, 0.9, **released)))
    theirs = row(found, "theirs")
    assert theirs.rank is None and theirs.unranked == "what it learned from is not recorded where it was imported"
    free = tables(store, ("own", scored(store, 0.5, "crafter")), ("theirs", scored(store, 0.9, "crafter", **released)))
    assert row(free, "theirs").rank == (1, 1) and row(free, "theirs").steps is None


def test_worlds_of_another_version_are_left_out(store: Store) -> None:
    new, old = scored(store, 0.5, noise="0.4.10"), scored(store, 0.9, noise="0.4.9")
    found = tables(store, ("new", new), ("old", old), ("unnamed", scored(store, 0.8, noise="")))
    assert [each.label for each in found.tables[0].rows if each.label.endswith("actor")] == ["new, actor"]
    said = [text.partition(": evaluate")[0] for text in found.left_out]
    others = "others in crafter 1.8.3 with opensimplex 0.4.10"
    assert f"old: it was played in crafter 1.8.3 with opensimplex 0.4.9, {others}" in said
    assert f"unnamed: it was played in a version that it does not name, {others}" in said


def test_evaluations_of_one_checkpoint_in_two_versions_are_not_pooled(store: Store) -> None:
    """Equal seeds are other worlds there."""
    named = [("a", scored(store, 0.5, noise=noise, count=count)) for noise, count in (("0.4.9", 9), ("0.4.10", 10))]
    (sample,) = samples(gather(named, store))
    (member,), (apart,) = sample.runs[0].pool.members, sample.runs[0].pool.apart
    assert {member.ref, apart.artefact.ref} == {artefact.ref for _, artefact in named}
    assert sum(sample.episodes["planner"] == "actor") == member.manifest.config["episodes"]
    (why,) = apart.why
    assert why.startswith("emulator was crafter 1.8.3 with opensimplex 0.4.") and why in sample.apart[0]


def test_few_episodes_have_no_rank(store: Store) -> None:
    found = tables(store, ("few", scored(store, 0.5, count=3)))
    assert row(found, "few").rank is None and row(found, "few").unranked == "fewer than 8 episodes"


def test_the_page_has_its_tables_and_no_comparison_with_atari(store: Store) -> None:
    made, ours = board.build(store), scored(store, 0.3)
    named = [("walk", made.scores["Freeway"]), ("craft", ours)]
    config = ReportConfig(scores=tuple(each.ref for _, each in named), names=tuple(name for name, _ in named))
    found = report.run(config, store).artefact
    told = json.loads(found.path("leaderboard.json").read_text())
    assert not any(GAME in each["games"] for block in told["blocks"] for each in block["standings"])
    assert [each["hns"] for each in told["rows"] if each["game"] == GAME] == [None]
    assert told["crafter"]["tables"][0]["rows"][0]["label"] == "Human experts"
    html = found.path("index.html").read_text()
    assert 'id="crafter"' in html and "printed 14.5±1.6" in html and "Crafter, crafter_1m" in html
    with Image.open(found.path("crafter_1m.png")) as picture:
        assert picture.format == "PNG" and picture.width > 600
    with found.path("crafter.csv").open(encoding="utf-8") as file:
        lines = {line["agent"]: line for line in csv.DictReader(file)}
    human, mine = lines["Human experts"], lines["craft, actor"]
    assert float(human["score"]) == pytest.approx(50.527, abs=1e-3) and human["score_published"] == "50.5±6.8"
    assert float(mine["wake_up_low"]) <= float(mine["wake_up"]) <= float(mine["wake_up_high"])
    assert "## Crafter, crafter_1m" in found.path("leaderboard.md").read_text()


@pytest.mark.slow
def test_a_board_of_crafter_alone_stands(store: Store) -> None:
    scores = scored(store, 0.5)
    found = report.run(ReportConfig(scores=(scores.ref,), names=("craft",)), store).artefact
    assert found.manifest.metrics["mean_return"].keys() == {"craft/Crafter/actor"}


def test_episodes_that_do_not_tell_what_they_reached_are_not_ranked(store: Store) -> None:
    plain = board.episodes("actor", [1.0] * 9, "terminated")

    def write(draft: Any) -> None:
        pd.concat([plain]).to_parquet(draft.path("episodes.parquet"))

    scores = board.make(
        store, "scores", GAME, (), write, config={"game": GAME, "protocol": "crafter", "planner": "actor"},
        metrics={"actor": board.summary([1.0] * 9)}, roots=[{"game": GAME, "emulator": "crafter 1.8.3"}],
    )  # fmt: skip
    found = tables(store, ("old", scores))
    assert row(found, "old").unranked == "its episodes do not tell what they reached: evaluate it again"
    assert found.tables[0].title == "crafter: no budget of play"


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Nothing to draw in x\.png"):
        draw_rates([], tmp_path / "x.png")
