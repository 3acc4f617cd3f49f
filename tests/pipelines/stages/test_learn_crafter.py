"""IRIS, tiny, learns Crafter by its own play, killed or not, and is scored by what it reached; what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.environments.crafter.game import ACHIEVEMENTS, ACTIONS, GAME
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.achievements import COLUMN
from pipelines.evaluation.player_settings import ACTOR
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.recipes.demo import mini
from pipelines.stages import collect, evaluate, learn
from pipelines.stages.collect import CollectConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training import collecting
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice

TOKENIZER = TokenizerConfig(
    16, 8, 8, 4, res_blocks=1, attention=False, downsample=(2, 2, 2, 2), resolution=64, frame_channels=3,
    initial="uniform",
)  # fmt: skip
WORLD = WorldModelConfig(16, 16, 4, 3, 2, 32, 0.0, num_actions=len(ACTIONS))
ACTING = ActorCriticConfig((4, 4, 4, 4), hidden=8, num_actions=len(ACTIONS), horizon=3, burn_in=2)
NETWORKS = IrisConfig(tokenizer=TOKENIZER, world_model=WORLD, actor_critic=ACTING)
TEMPLATE = LearnConfig(
    networks=NETWORKS,
    rounds=2,
    uses=tuple(Practice(name, 2, updates=1) for name in ("tokenizer", "world_model", "actor_critic")),
    collect=PlayTurns("crafter_1m", steps=30, environments=2),
    check=CheckPlay(every=0, steps=0, protocol="crafter"),
    loop=LoopConfig(precision="float32", log_every=1, save_seconds=0.0),
    sight_frames=2,
)


def weights(artefact: Artefact) -> dict[str, str]:
    return {file.path: file.sha256 for file in artefact.manifest.files if file.path.endswith((".safetensors", ".h5"))}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("crafter") / "store")


@pytest.fixture(scope="module")
def learned(store: Store) -> Artefact:
    return learn.run(replace(TEMPLATE, game=GAME), store).artefact


def test_what_it_played_stands_with_its_actions_and_its_origin(learned: Artefact) -> None:
    played = Trajectories(learned.path(FILE_NAME))
    assert len(played) == 60 and played.frame_shape == (64, 64, 3) and played.game == GAME
    assert learned.manifest.roots[0]["emulator"].startswith("crafter ")
    assert learned.manifest.roots[0]["protocol"] == "crafter_1m"


@pytest.mark.slow
def test_killed_in_its_second_turn_it_goes_on_bit_for_bit(
    learned: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, steps = Store(tmp_path / "store"), []
    whole = collecting.Collector._step

    def dying(self: Any, *how: Any) -> None:
        steps.append(1)
        if len(steps) == 20:
            raise KeyboardInterrupt
        whole(self, *how)

    with monkeypatch.context() as patch:
        patch.setattr(collecting.Collector, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            learn.run(replace(TEMPLATE, game=GAME), other)
    assert weights(learn.run(replace(TEMPLATE, game=GAME), other).artefact) == weights(learned)


@pytest.mark.slow
def test_scores_tell_of_every_achievement_and_are_found_again_after_a_kill(
    learned: Artefact, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluateConfig(
        game=GAME, agent=learned.ref, protocol="crafter_1m", planner=ACTOR, context=1, episodes=2, random_episodes=2,
        max_steps=25, epsilon=0.0,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "_write_files", lambda *how: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(config, store)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "play", lambda *how: pytest.fail("all episodes were kept"))
        scores = evaluate.run(config, store).artefact
    table = pd.read_parquet(scores.path("episodes.parquet"))
    assert table["planner"].tolist() == [ACTOR, ACTOR, "random", "random"] and table["length"].max() <= 25
    assert {COLUMN + name for name in ACHIEVEMENTS} <= set(table)
    lines = [json.loads(line) for line in scores.path("episodes.jsonl").read_text().splitlines()]
    assert all(tuple(line["achievements"]) == ACHIEVEMENTS for line in lines)
    told = scores.manifest.metrics[ACTOR]
    rate = 100 * (table[table["planner"] == ACTOR][COLUMN + "collect_sapling"] > 0).mean()
    assert told["achievements"]["collect_sapling"]["value"] == rate
    assert 0 <= told["crafter_score"]["low"] <= told["crafter_score"]["value"] <= told["crafter_score"]["high"]
    assert scores.manifest.roots[0]["emulator"].startswith("crafter ")


@pytest.mark.slow
def test_a_budget_counts_what_the_agents_before_it_played(learned: Artefact, store: Store) -> None:
    """Two rounds of half a million are a million, which the rules allow alone."""
    child = learn.run(replace(TEMPLATE, game=GAME, agent=learned.ref), store).artefact
    whole = replace(TEMPLATE, collect=PlayTurns("crafter_1m", steps=500_000))
    plan = Plan(Recipe("tiny", (GAME,)).but(learn=whole))
    plan.config(Step("world_model_agent", GAME)).check_frozen(plan)
    for agent, total in ((learned, "1,000,060"), (child, "1,000,120")):
        with pytest.raises(UsageError) as caught:
            learn.run(replace(whole, game=GAME, agent=agent.ref), store)
        assert str(caught.value).startswith(f"With what {agent.ref} played before it, this agent plays {total} steps")


def refused(**changes: Any) -> str:
    recipe = Recipe("tiny", (GAME,)).but(learn=replace(TEMPLATE, **changes))
    with pytest.raises(WorldlineError) as caught:
        Plan(recipe).config(Step("world_model_agent", GAME)).check_frozen(Plan(recipe))
    assert isinstance(caught.value, UsageError) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"collect": PlayTurns("iris-train", steps=30)},
            "Crafter cannot be played under 'iris-train': choose rules of",
        ),
        ({"check": CheckPlay()}, "Crafter cannot be played under 'iris': choose rules of its own, crafter, crafter_1m"),
        (
            {
                "networks": replace(
                    NETWORKS,
                    world_model=replace(WORLD, num_actions=18),
                    actor_critic=replace(ACTING, num_actions=18),
                )
            },
            "set learn.world_model.num_actions=17 and learn.actor_critic.num_actions=17",
        ),
        (
            {"collect": PlayTurns("crafter_1m", steps=600_000)},
            "'tiny' plays 1,200,000 steps while it learns, and crafter_1m allows 1,000,000: play fewer, or choose",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_it_begins(changes: dict[str, Any], fault: str) -> None:
    assert fault in refused(**changes)


def test_a_budget_counts_the_rounds_that_play() -> None:
    play = PlayTurns("crafter_10m", steps=10_000, until=991, first_steps=100_000)
    assert replace(TEMPLATE, rounds=1000, collect=play).steps_played == 10_000_000
    assert replace(TEMPLATE, rounds=3).steps_played == 90


@pytest.mark.parametrize("changes", [{}, {"source": "bucket"}])
def test_sources_of_replay_refuse_it(changes: dict[str, Any]) -> None:
    recipe = mini().but(games=(GAME,), **changes)
    step = Plan(recipe, "gs://nowhere").steps()[0]
    with pytest.raises(UsageError) as caught:
        Plan(recipe, "gs://nowhere").config(step)
    assert str(caught.value).startswith("Crafter has no published replay: collect it") and step.game == GAME
    with pytest.raises(UsageError, match="Crafter has no published replay"):
        collect.run(CollectConfig(game=GAME), None)  # type: ignore[arg-type]
