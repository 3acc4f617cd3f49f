"""What makes one number: evaluations of a checkpoint, checkpoints that differ in their seed; and what never does."""

from typing import Any

import pandas as pd
import pytest

from pipelines.leaderboard.agent_scores import Entry, Sample, gather, samples
from pipelines.leaderboard.ranking import blocks
from pipelines.leaderboard.score_row import score_rows
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.evaluation.evaluations import dated
from tests.pipelines.leaderboard import board

EMULATOR = "ale-py 0.12.1"


def trained(store: Store, seed: int, data: str = "Pong", width: int = 128) -> Artefact:
    """A world-action model on a pretrained one, of one training seed."""
    behind = board.make(store, "trajectories", data).ref
    first = board.make(store, "pretrained", "demo", (behind,), config={"seed": seed, "width": width}).ref
    tokens = board.make(store, "tokens", data, (first, behind), config={"game": data}).ref
    return board.make(store, "world_action_model", "demo", (first, tokens), config={"seed": seed})


def score(
    store: Store,
    agent: Artefact,
    seed: int,
    returns: list[float],
    game: str = "Pong",
    first: int | None = None,
    emulator: str = EMULATOR,
    **config: Any,
) -> Artefact:
    """An evaluation of seed `seed`, whose emulators count from `first`; random play beside it."""

    def write(draft: Any) -> None:
        table = board.episodes("greedy", returns, "terminated")
        table["seed"] += 100 * seed if first is None else first
        chance = board.episodes("random", [0.0, 1.0], "terminated")
        pd.concat([table, chance]).to_parquet(draft.path("episodes.parquet"))

    return board.make(
        store,
        "scores",
        game,
        (agent.ref,),
        write,
        config={"game": game, "protocol": "jowa", "episodes": len(returns), "seed": seed} | config,
        roots=[{"game": game, "rom_md5": "60e0", "emulator": emulator}],
        metrics={"greedy": board.summary(returns), "random": board.summary([0.0, 1.0])},
    )


def entries(store: Store, *named: tuple[str, Artefact]) -> list[Entry]:
    return gather(named, store)


def of(store: Store, *named: tuple[str, Artefact]) -> list[Sample]:
    return samples(entries(store, *named))


def test_training_seeds_are_runs_of_one_agent(store: Store) -> None:
    found = of(
        store,
        *(
            (f"s{seed}", score(store, trained(store, seed), seed, [10.0 * seed, 10.0 * seed + 2], game))
            for game in ("Pong", "Boxing")
            for seed in (1, 0)
        ),
    )
    assert [(each.agent, each.game, each.seeds) for each in found] == [("s0 + s1", "Pong", 2), ("s0 + s1", "Boxing", 2)]
    pong, boxing = found
    assert list(pong.returns.values()) == [(0.0, 2.0), (10.0, 12.0)]
    assert list(pong.returns) == list(boxing.returns), "a network is the same run in every game"
    row = score_rows(found)[0]
    assert (row.mean, row.seeds, row.episodes, row.evaluations, row.random_mean) == (6.0, 2, 4, 2, 0.5)
    assert row.experiments == ("s0", "s1") and row.low < 2 and row.high > 10
    assert len(pong.episodes[pong.episodes["planner"] == "random"]) == 2, "random play of equal seeds is one"
    (block,) = blocks(score_rows(found))
    assert block.title.startswith("Pong, Boxing, protocol jowa, 2 episodes a game and training seed")
    assert block.standings[0].seeds == (2, 2) and block.standings[0].episodes == (4, 4)


def test_many_experiments_get_a_short_name(store: Store) -> None:
    named = [(f"s{seed}", score(store, trained(store, seed), seed, [1.0])) for seed in range(4)]
    (found,) = of(store, *named)
    assert (found.agent, found.experiments) == ("s0 + 3 more", ("s0", "s1", "s2", "s3"))


def test_settings_that_greedy_play_does_not_read_make_no_second_row(store: Store) -> None:
    agent = trained(store, 0)
    narrow, wide = (score(store, agent, 0, [1.0, 2.0], beam_width=width) for width in (2, 5))
    (row,) = score_rows(of(store, ("narrow", narrow), ("wide", wide)))
    assert (row.experiments, row.episodes, row.evaluations) == (("narrow", "wide"), 2, 1)
    other = score(store, agent, 0, [3.0, 4.0], context=1)
    assert len(score_rows(of(store, ("narrow", narrow), ("other", other)))) == 2


def test_evaluations_of_one_checkpoint_are_pooled_and_an_episode_counts_once(store: Store) -> None:
    agent = trained(store, 0)
    first = dated(score(store, agent, 0, [1.0, 2.0]), "2026-01-04T22:00:00Z")
    again = dated(score(store, agent, 1, [2.0, 5.0, 6.0], first=1), "2026-01-11T22:00:00Z")
    (found,) = of(store, ("a", first), ("a", again))
    assert found.seeds == 1 and set(found.sources) == {str(first.ref), str(again.ref)}
    assert list(found.returns.values()) == [(1.0, 2.0, 5.0, 6.0)]
    (row,) = score_rows([found])
    assert (row.agent, row.evaluations, row.episodes, row.mean) == ("a", 2, 4, 3.5)


def test_another_emulator_is_stated_and_not_pooled(store: Store) -> None:
    agent = trained(store, 0)
    old = dated(score(store, agent, 0, [1.0], emulator="ale-py 0.11"), "2026-01-04T22:00:00Z")
    new = dated(score(store, agent, 1, [2.0, 3.0]), "2026-01-11T22:00:00Z")
    (found,) = of(store, ("a", old), ("a", new))
    assert found.sources == (str(new.ref),)
    assert found.apart == [f"{old.ref}: emulator was ale-py 0.11, is ale-py 0.12.1"]
    (row,) = score_rows([found])
    assert row.episodes == 2 and "ale-py 0.11" in row.apart
    assert "ale-py 0.11" in blocks([row])[0].standings[0].aside[0]


def test_a_newest_evaluation_that_contradicts_the_pool_is_told(store: Store) -> None:
    agent = trained(store, 0)
    weeks = [
        ("a", dated(score(store, agent, seed, [level, level + 1.0] * 5), f"2026-01-{4 + 7 * seed:02}T22:00:00Z"))
        for seed, level in enumerate((1.0, 1.0, 9.0))
    ]
    (row,) = score_rows(of(store, *weeks))
    assert row.evaluations == 3 and "greedy 9.5" in row.drift and "over 10, before 1.5" in row.drift
    assert "APART" in row.drift and "contradicted (Pong)" in blocks([row])[0].standings[0].aside[0]
    (before,) = score_rows(of(store, *weeks[:2]))
    assert before.drift == ""


def test_other_settings_stand_beside_and_the_larger_sample_counts(store: Store) -> None:
    agent = trained(store, 0)
    few, many = score(store, agent, 0, [1.0]), score(store, agent, 0, [2.0, 3.0], context=8)
    rows = score_rows(of(store, ("a", few), ("a", many)))
    assert [row.episodes for row in rows] == [1, 2]
    (standing,) = blocks(rows)[0].standings
    assert standing.episodes == (2, 2) and standing.aside[0].startswith(
        "not pooled: Pong with ale-py 0.12.1, ROM 60e0, 1 episode;"
    )


@pytest.mark.parametrize("change", [{"data": "Boxing"}, {"width": 256}])
def test_other_data_and_other_networks_are_other_agents(store: Store, change: dict[str, Any]) -> None:
    first = score(store, trained(store, 0), 0, [1.0, 2.0])
    other = score(store, trained(store, 1, **change), 1, [1.0, 2.0])
    found = of(store, ("a", first), ("b", other))
    assert [(each.agent, each.seeds) for each in found] == [("a", 1), ("b", 1)]


def test_what_cannot_be_traced_is_an_agent_of_its_own(store: Store) -> None:
    named = [(f"s{seed}", score(store, trained(store, seed), seed, [1.0, 2.0])) for seed in (0, 1)]
    lost = trained(store, 1).manifest.parents[0].ref
    (store.root / lost / "manifest.json").unlink()
    assert [each.agent for each in of(store, *named)] == ["s0", "s1"]


def test_scores_without_any_training_are_kept_apart_by_experiment(store: Store) -> None:
    def bare(seed: int) -> Artefact:
        return board.make(
            store, "scores", "Pong", config={"seed": seed}, metrics={"greedy": board.summary([1.0 * seed])}
        )

    found = of(store, ("a", bare(0)), ("b", bare(1)))
    assert [(each.agent, each.seeds, each.returns) for each in found] == [("a", None, {}), ("b", None, {})]
    assert [row.mean for row in score_rows(found)] == [0.0, 1.0]


def test_one_checkpoint_under_two_names_is_one_agent(store: Store) -> None:
    agent = trained(store, 0)
    (found,) = of(store, ("a", score(store, agent, 0, [1.0, 2.0])), ("b", score(store, agent, 1, [3.0, 4.0])))
    assert (found.agent, found.seeds, len(found.sources)) == ("a + b", 1, 2)
