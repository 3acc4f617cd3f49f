"""Who belongs in Atari 100k and who does not, over which games, and what stands beside whom."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from models.registry import FAMILIES
from pipelines.environments.atari.reference_scores import normalised
from pipelines.leaderboard.agent_scores import gather, samples
from pipelines.leaderboard.atari100k import STEPS, Atari100k, atari100k, games
from pipelines.leaderboard.ranking import reproductions
from pipelines.leaderboard.score_row import score_rows
from pipelines.leaderboard.statistics import intervals
from pipelines.stages import evaluate, learn, report
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.report import ReportConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.models.toy_family.family import TOY
from tests.pipelines.leaderboard import board
from tests.pipelines.stages import test_learn

Named = tuple[str, Artefact]

EPISODES = 8  # fewer have no rank


def learned(store: Store, game: str, seed: int, steps: int = STEPS, parents: tuple[Any, ...] = (), **config: Any):
    """An agent that played so many steps of a game of its own."""
    own = {"game": game, "seed": seed, "collect": {"steps": 200, "rom_md5": board.ROMS.get(game, "")}} | config
    return board.make(store, "world_model_agent", game, parents, config=own, counts={"frames": steps} if steps else {})


def scored(store: Store, agent: Artefact, game: str, level: float, protocol: str = "iris", count: int = EPISODES):
    """Its evaluation: `count` episodes around `level`."""
    returns = [level + place for place in range(count)]

    def write(draft: Any) -> None:
        pd.concat([board.episodes("actor", returns, "terminated")]).to_parquet(draft.path("episodes.parquet"))

    return board.make(
        store,
        "scores",
        game,
        (agent.ref,),
        write,
        config={"game": game, "protocol": protocol, "planner": "actor", "episodes": count},
        roots=[{"game": game, "rom_md5": "60e0", "protocol": protocol}],
        metrics={"actor": board.summary(returns), "random": board.summary([0.0, 1.0])},
    )


def table(store: Store, *named: Named) -> Atari100k:
    pooled = samples(gather(named, store))
    return atari100k(pooled, score_rows(pooled))


def by_seed(store: Store, on: tuple[str, ...], seeds: int = 2) -> list[Named]:
    """An experiment a seed, each over these games."""
    return [
        (f"s{seed}", scored(store, learned(store, game, seed), game, 100.0 * (1 + seed)))
        for seed in range(seeds)
        for game in on
    ]


def test_the_benchmark_has_26_games_in_every_released_set_of_scores() -> None:
    assert len(games()) == 26
    assert {tuple(sorted(row.claim.scores)) for row in reproductions("Atari 100k")} == {(), games()}


def test_an_agent_over_every_game_and_seed_is_one_row_ranked_among_the_published(store: Store) -> None:
    (whole,) = table(store, *by_seed(store, games())).tables
    (ours,) = (row for row in whole.rows if row.kind == "ours")
    assert whole.title == "All 26 games" and (ours.label, ours.seeds, ours.episodes) == (
        "s0 + s1, actor",
        (2, 2),
        (16, 16),
    )
    assert (ours.mark, ours.protocol, ours.steps, ours.unranked) == ("ours", "iris", STEPS, "")
    levels = [[level + place for place in range(EPISODES)] for level in (100.0, 200.0)]
    expected = intervals(
        {
            game: {
                row: [normalised(game, value) for value in returns]
                for row, returns in zip(_runs(store, game), levels, strict=True)
            }
            for game in games()
        }
    )
    assert ours.human_intervals == expected and ours.human == {name: each.value for name, each in expected.items()}
    ranked = [row for row in whole.rows if row.rank]
    assert list(whole.rows[: len(ranked)]) == ranked and ours in ranked and whole.seeds_differ
    assert [row.human["iqm"] for row in ranked] == sorted((row.human["iqm"] for row in ranked), reverse=True)
    assert {"IRIS", "REM", "DIAMOND", "STORM", "SimPLe", "TWM", "DreamerV3"} < {row.label for row in ranked}
    beside = {row.label: row for row in whole.rows}
    for found in reproductions("Atari 100k"):
        row = beside[found.claim.agent]
        assert (row.human, row.human_intervals, row.mark) == (found.human, found.human_intervals, found.mark)
        assert dict(row.printed) == dict(found.claim.figures.get("human", {}))
    assert beside["STORM"].differences and beside["STORM"].mark == "no"
    for name in ("SPR", "BBF", "EfficientZero"):
        assert beside[name].rank is None and beside[name].unranked == "no raw seeds, no interval"


def _runs(store: Store, game: str) -> list[str]:
    return [str(learned(store, game, seed).ref) for seed in (0, 1)]


def test_fewer_games_stand_beside_the_published_scores_of_the_same_games_alone(store: Store) -> None:
    whole, few = table(store, *by_seed(store, ("Pong", "Boxing"))).tables
    assert all(row.kind == "published" for row in whole.rows) and len(whole.rows) == len(reproductions("Atari 100k"))
    assert few.title == "2 of 26 games: Boxing, Pong" and [row.kind for row in few.rows].count("ours") == 1
    labels = {row.label: row for row in few.rows}
    assert "SPR" not in labels, "printed aggregates are over all games"
    iris = next(row.claim.scores for row in reproductions("Atari 100k") if row.claim.agent == "IRIS")
    own = [[normalised(game, value) for (value,) in iris[game].values()] for game in few.games]
    assert labels["IRIS"].human["mean"] == pytest.approx(sum(map(sum, own)) / 10)
    assert not labels["IRIS"].printed and labels["STORM"].mark == "no" and labels["STORM"].differences == ()
    assert labels["MuZero"].unranked and not labels["MuZero"].human_intervals


def test_games_of_unequal_seeds_are_still_one_agent(store: Store) -> None:
    named = [*by_seed(store, ("Pong",), 3), *by_seed(store, ("Boxing",), 1)]
    _, few = table(store, *named).tables
    (ours,) = (row for row in few.rows if row.kind == "ours")
    assert ours.seeds == (1, 3) and ours.label == "s0 + 2 more, actor"


@pytest.mark.parametrize("change", [{"rounds": 3}, {"collect": {"steps": 100, "rom_md5": ""}}])
def test_another_recipe_is_another_agent(store: Store, change: dict[str, Any]) -> None:
    one = ("a", scored(store, learned(store, "Pong", 0), "Pong", 1.0))
    other = ("b", scored(store, learned(store, "Pong", 1, **change), "Pong", 2.0))
    _, few = table(store, one, other).tables
    assert [row.label for row in few.rows if row.kind == "ours"] == ["b, actor", "a, actor"]


def test_limited_evaluations_are_shown_without_a_rank(store: Store) -> None:
    _, few = table(store, ("a", scored(store, learned(store, "Pong", 0), "Pong", 1.0, count=2))).tables
    (ours,) = (row for row in few.rows if row.kind == "ours")
    assert ours.rank is None and ours.unranked == f"fewer than {EPISODES} episodes"


def offline(store: Store) -> Artefact:
    data = board.make(store, "trajectories", "Pong").ref
    return learned(store, "Pong", 0, 0, (data,), collect={"steps": 0})


def both(store: Store) -> Artefact:
    return learned(store, "Pong", 0, 50, (offline(store).ref,))


def twice(store: Store) -> Artefact:
    return learned(store, "Pong", 1, STEPS, (learned(store, "Pong", 0, 1).ref,))


def jowa(store: Store) -> Artefact:
    data = board.make(store, "imported_trajectories", "Pong").ref
    return board.make(store, "world_action_model", "demo", (data,))


def imported(store: Store) -> Artefact:
    return board.make(store, "imported", "Pong")


def untold(store: Store) -> Artefact:
    return learned(store, "Pong", 0, 0)


def lost(store: Store) -> Artefact:
    first = learned(store, "Pong", 0, 1)
    found = learned(store, "Pong", 1, 1, (first.ref,))
    (first.folder / "manifest.json").unlink()
    return found


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (offline, "it learned from stored play (trajectories), not from its own alone"),
        (both, "it learned from stored play (trajectories), not from its own alone"),
        (jowa, "it learned from stored play (imported_trajectories), not from its own alone"),
        (twice, "it learned from 100,001 agent steps of its own play, more than 100,000"),
        (imported, "what it learned from is not recorded where it was imported"),
        (untold, "no play that it learned from is recorded"),
        (lost, "how it was trained cannot be told (world_model_agent/Pong/"),
    ],
)
def test_who_learned_otherwise_is_left_out_and_told_why(store: Store, make: Any, why: str) -> None:
    found = table(store, ("x", scored(store, make(store), "Pong", 1.0)))
    (told,) = found.left_out
    assert told.startswith(f"x (Pong): {why}") and len(found.tables) == 1
    assert not any(row.kind == "ours" for row in found.tables[0].rows)


def test_other_rules_and_other_games_are_left_out_and_told_why(store: Store) -> None:
    agent = learned(store, "Pong", 0)
    good, sticky, noisy = (
        scored(store, agent, "Pong", 1.0, protocol) for protocol in ("atari100k", "sticky", "iris+noise0.1")
    )
    away = scored(store, learned(store, "Tennis", 0), "Tennis", 1.0)
    found = table(store, ("x", good), ("x", sticky), ("x", noisy), ("y", away))
    assert found.left_out == (
        "x (Pong): it was evaluated under protocol sticky, not atari100k or iris",
        "x (Pong): it was evaluated under protocol iris+noise0.1, not atari100k or iris",
        "y (Tennis): Tennis is none of the 26 games",
    )
    (ours,) = (row for row in found.tables[1].rows if row.kind == "ours")
    assert ours.protocol == "atari100k"


@pytest.mark.slow
def test_a_toy_that_played_and_learned_stands_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, TOY.name, TOY)
    store = Store(tmp_path / "store")
    made = [learn.run(replace(test_learn.config(), seed=seed, rounds=2), store).artefact for seed in (0, 1)]
    asked = EvaluateConfig(
        game=test_learn.GAME, protocol="iris", episodes=EPISODES, random_episodes=1, context=1, max_steps=12
    )
    scores = [evaluate.run(replace(asked, agent=agent.ref), store).artefact for agent in made]
    board_of = ReportConfig(tuple(score.ref for score in scores), ("toy-0", "toy-1"))
    artefact = report.run(board_of, store).artefact
    page = artefact.path("index.html").read_text()
    section = page.partition('<section aria-labelledby="atari100k">')[2].partition("</section>")[0]
    assert "1 of 26 games: Breakout" in section and "toy-0 + toy-1, greedy" in section and ">180<" in section
    assert "not ranked: limited" in section, "episodes were cut"
    assert "IRIS <span" in section and "STORM <span" in section and "Not in it" not in section
    for agent in made:
        assert page.count(f'<h3>world_model_agent <code class="quiet">{agent.ref}</code></h3>') == 1
        assert f"Breakout: {agent.ref}" in page, "its sheet"
    assert page.count("Learning curves of world_model_agent") == 2
    with artefact.path("atari100k.csv").open(newline="") as file:
        rows = {(row["agent"], row["games"]): row for row in csv.DictReader(file)}
    ours = rows["toy-0 + toy-1, greedy", "Breakout"]
    assert (ours["steps"], ours["fewest_seeds"], ours["reproduced"]) == ("180", "2", "ours")
    assert rows["SPR", "; ".join(games())]["human_mean_published"] == "0.704"
    assert ("SPR", "Breakout") not in rows
    told = json.loads(artefact.path("leaderboard.json").read_text())["atari100k"]
    assert [len(found["games"]) for found in told["tables"]] == [26, 1] and told["left_out"] == []
    assert "## Atari 100k, 1 of 26 games: Breakout" in artefact.path("leaderboard.md").read_text()
