"""Meta-world's tables: who stands in which, by what, and that nothing of it is compared with others."""

import csv
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.environments.metaworld.game import APV_TASKS
from pipelines.environments.rollout import Episode
from pipelines.evaluation.session import episode_table, summary
from pipelines.leaderboard.agent_scores import gather, samples
from pipelines.leaderboard.benchmark import RANDOM
from pipelines.leaderboard.metaworld import OTHER_VERSION, UNTOLD, Entrant, Metaworld, metaworld
from pipelines.leaderboard.score_row import score_rows
from pipelines.stages import report
from pipelines.stages.report import ReportConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.leaderboard import board

Named = tuple[str, Artefact]
EMULATOR = "metaworld 3.1.1 with mujoco 3.3.0"


def episodes(count: int, skill: float, seed: int) -> list[Episode]:
    """Each succeeds with the chance `skill`, then in many of its steps."""
    draws = np.random.default_rng(seed).random(count) < skill
    return [
        Episode(number, seed * 1000 + number, 100.0 + 900 * hit, 0.0, 500, "truncated", b"", {"success": 37 * int(hit)})
        for number, hit in enumerate(draws)
    ]


def scored(store: Store, skill: float, game: str = "reach", protocol: str = "metaworld", **more: Any) -> Artefact:
    """An agent that played so many steps of a task, and its evaluation."""
    seed, count = more.get("seed", 0), more.get("count", 16)
    config, behind = {"game": game, "seed": seed, "skill": more.get("agent", skill)}, ()
    if watched := more.get("watched"):
        videos = board.make(store, "videos", "scripted", config={"seed": 0})
        world = {"seed": seed, "world": watched}
        behind = (board.make(store, "video_pretrained", "arm", (videos.ref,), config=world, counts={"frames": 9}).ref,)
    counts = {"frames": more.get("steps", 105_000)}
    agent = board.make(store, "world_model_agent", game, behind, config=config, counts=counts)
    played = {"actor": episodes(count, skill, 10 + seed), "random": episodes(8, 0.02, 5)}

    def write(draft: Any) -> None:
        table = episode_table(played)
        table.drop(columns=more.get("without", [])).to_parquet(draft.path("episodes.parquet"))

    return board.make(
        store, "scores", game, (agent.ref,), write,
        config={"game": game, "protocol": protocol, "planner": "actor", "episodes": count},
        roots=[{"game": game, "protocol": protocol, "emulator": more.get("emulator", EMULATOR)}],
        metrics={name: summary(each) for name, each in played.items()},
    )  # fmt: skip


def tables(store: Store, *named: Named) -> Metaworld:
    pooled = samples(gather(named, store))
    found = metaworld(pooled, score_rows(pooled))
    assert found is not None
    return found


def row(found: Metaworld, label: str, table: int = 0) -> Entrant:
    return next(each for each in found.tables[table].rows if each.label.startswith(label))


def test_ours_stand_beside_random_play_and_who_was_published(store: Store) -> None:
    found = tables(store, ("good", scored(store, 0.9)), ("weak", scored(store, 0.1)))
    (table,) = found.tables
    assert (table.protocol, table.tasks, table.title) == ("metaworld", ("reach",), "metaworld: 1 task, reach")
    assert [each.label for each in table.rows[:3]] == ["good, actor", "weak, actor", RANDOM]
    assert [each.rank for each in table.rows[:3]] == [(1, 1), (2, 3), (2, 3)]
    good = row(found, "good")
    assert good.mean is not None and good.mean.low is not None and good.mean.low < good.mean.value == 81.25
    assert good.rates["reach"] == good.mean == good.iqm and good.steps == 105_000 and good.seeds == 1
    assert good.returns is not None and good.returns.value == pytest.approx(100 + 900 * 0.8125)
    apv = row(found, "APV, 245,000")
    assert (apv.rank, apv.unranked, apv.returns, apv.iqm) == (None, OTHER_VERSION, None, None)
    assert apv.mean is not None and (apv.mean.value, apv.mean.low) == (90.0, None) and apv.seeds == 8
    assert any(text.startswith("PreLAR and ContextWM") for text in found.left_out)


def test_an_agent_of_all_six_tasks_is_one_row_beside_the_published_means(store: Store) -> None:
    named = [("six", scored(store, 0.5, task, agent="six")) for task in APV_TASKS]
    found = tables(store, *named)
    (table,) = found.tables
    assert table.title == "metaworld: the 6 tasks of APV" and table.name == "metaworld_apv"
    mine, apv = row(found, "six, actor"), row(found, "APV, 245,000")
    assert list(mine.rates) and set(mine.rates) == set(APV_TASKS) and mine.episodes == 16
    assert mine.mean is not None and mine.mean.value == pytest.approx(
        np.mean([each.value for each in mine.rates.values()])
    )
    assert apv.mean is not None and apv.iqm is not None and (apv.mean.value, apv.iqm.value) == (85.6, 95.4)
    assert apv.rates["lever-pull"].value == 67.5


def test_training_seeds_are_one_row_and_widen_its_interval(store: Store) -> None:
    named = [(f"s{seed}", scored(store, skill, seed=seed, agent="a")) for seed, skill in ((1, 0.95), (2, 0.3))]
    both, alone = tables(store, *named), tables(store, named[0])
    wide, narrow = row(both, "s1 + s2").mean, row(alone, "s1").mean
    assert row(both, "s1 + s2").seeds == 2 and wide is not None and narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]


def test_seeds_that_watched_videos_each_by_themselves_are_one_agent_of_its_own(store: Store) -> None:
    seeds = [scored(store, 0.6, seed=seed, agent="a", watched="large") for seed in (1, 2)]
    plain, other = scored(store, 0.5, seed=1, agent="a"), scored(store, 0.7, seed=1, agent="a", watched="small")
    found = tables(store, ("s1", seeds[0]), ("s2", seeds[1]), ("plain", plain), ("small", other))
    labels = [each.label for each in found.tables[0].rows if each.label.endswith("actor")]
    assert sorted(labels) == ["plain, actor", "s1 + s2, actor", "small, actor"]
    assert row(found, "s1 + s2").seeds == 2 and row(found, "s1 + s2").steps == 105_000, "videos are no play"


def test_other_tasks_and_other_protocols_are_tables_of_their_own(store: Store) -> None:
    found = tables(
        store,
        ("a", scored(store, 0.9)),
        ("b", scored(store, 0.5, "hammer")),
        ("c", scored(store, 0.4, protocol="metaworld_fast")),
        ("d", scored(store, 0.4, protocol="metaworld_corner4")),
        ("noisy", scored(store, 0.8, protocol="metaworld+noise0.1")),
        ("old", scored(store, 0.7, "push", emulator="metaworld 3.0.0 with mujoco 3.2.7")),
    )
    assert [(table.protocol, table.tasks) for table in found.tables] == [
        ("metaworld", ("hammer",)),
        ("metaworld", ("reach",)),
        ("metaworld_fast", ("reach",)),
        ("metaworld_corner4", ("reach",)),
    ]
    beside = [sum(each.kind == "published" for each in table.rows) for table in found.tables]
    assert beside == [0, 4, 4, 0], "published of six tasks, seen by one camera"
    assert found.left_out[:2] == (
        "noisy (reach): it was evaluated under protocol metaworld+noise0.1, under noise",
        "old (push): it was played in metaworld 3.0.0 with mujoco 3.2.7, others in metaworld 3.1.1 with mujoco 3.3.0: "
        "evaluate it again",
    )


def test_two_answers_to_one_question_are_two_rows(store: Store) -> None:
    found = tables(store, ("one", scored(store, 0.9, agent=1)), ("one", scored(store, 0.2, agent=2)))
    assert [each.label for each in found.tables[0].rows].count("one, actor") == 2


def test_too_little_to_say_anything_has_no_rank(store: Store) -> None:
    found = tables(
        store,
        ("few", scored(store, 0.5, count=3)),
        ("single", scored(store, 1.0, count=1)),
        ("untold", scored(store, 0.6, without=["achievement_success"])),
    )
    assert row(found, "few").unranked == "reach: fewer than 8 episodes" and row(found, "few").rank is None
    assert row(found, "single").mean == (100.0, None, None)
    assert row(found, "untold").unranked == UNTOLD and row(found, "untold").mean is None


def test_the_page_has_its_tables_and_no_comparison_with_others(store: Store) -> None:
    made = board.build(store)
    named = [("walk", made.scores["Freeway"]), ("arm", scored(store, 0.4))]
    config = ReportConfig(scores=tuple(each.ref for _, each in named), names=tuple(name for name, _ in named))
    found = report.run(config, store).artefact
    told = json.loads(found.path("leaderboard.json").read_text())
    assert not any("reach" in each["games"] for block in told["blocks"] for each in block["standings"])
    assert [each["hns"] for each in told["rows"] if each["game"] == "reach"] == [None] and told["crafter"] is None
    rows = {each["label"]: each for each in told["metaworld"]["tables"][0]["rows"]}
    assert rows["APV, 105,000 steps"]["rates"] == {"reach": [70.0, None, None]}
    html = found.path("index.html").read_text()
    assert 'id="metaworld"' in html and "Meta-world, metaworld: 1 task, reach" in html and 'href="#metaworld"' in html
    assert "not ranked: published of version 2" in html and 'id="crafter"' not in html
    with Image.open(found.path("metaworld_reach.png")) as picture:
        assert picture.format == "PNG" and picture.width > 600
    with found.path("metaworld.csv").open(encoding="utf-8") as file:
        lines = {line["agent"]: line for line in csv.DictReader(file)}
    mine = lines["arm, actor"]
    assert float(mine["reach_low"]) <= float(mine["reach"]) <= float(mine["reach_high"]) and mine["tasks"] == "reach"
    assert lines["DreamerV2, 105,000 steps"]["mean"] == "37.5" and lines["DreamerV2, 105,000 steps"]["mean_low"] == ""
    text = found.path("leaderboard.md").read_text()
    assert "## Meta-world, metaworld: 1 task, reach" in text and "not ranked: published of version 2" in text


@pytest.mark.slow
def test_a_board_of_meta_world_alone_stands_and_one_without_has_none(store: Store) -> None:
    scores = scored(store, 0.5)
    found = report.run(ReportConfig(scores=(scores.ref,), names=("arm",)), store).artefact
    assert found.manifest.metrics["mean_return"].keys() == {"arm/reach/actor"}
    pooled = samples(gather([("walk", board.build(store).scores["Freeway"])], store))
    assert metaworld(pooled, score_rows(pooled)) is None
