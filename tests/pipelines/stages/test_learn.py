"""An agent plays, learns and is kept, by the toy family: killed anywhere it ends alike; offline it never plays."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.registry import FAMILIES
from pipelines.batches.memory import Draws
from pipelines.environments import registry
from pipelines.environments.actions import to_shared
from pipelines.episodes.experience import TURNS, step_of
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.stages import learn, segment
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training import collecting, state
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice
from tests.models.toy_family.family import TOY, ToyConfig
from tests.once import made_once

pytestmark = pytest.mark.usefixtures("undrawn")

GAME = "Breakout"
NETWORKS = ToyConfig(channels=3, height=64, width=64)


def config(**changes: Any) -> LearnConfig:
    return replace(
        LearnConfig(
            game=GAME,
            networks=NETWORKS,
            rounds=4,
            uses=(Practice("dynamics", 4, updates=3, lr=3e-3), Practice("imitation", 4, updates=2, start=1)),
            collect=PlayTurns(steps=90, until=3, epsilon=0.7, environments=2),
            check=CheckPlay(every=2, episodes=1, max_steps=20, temperature=0, steps=60),
            loop=LoopConfig(precision="float32", log_every=1, save_seconds=0.0),
            sight_frames=8,
        ),
        **changes,
    )


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, TOY.name, TOY)


def weights(artefact: Artefact) -> dict[str, str]:
    return {file.path: file.sha256 for file in artefact.manifest.files if file.path.endswith(".safetensors")}


def rows(artefact: Artefact) -> list[dict]:
    found = [json.loads(line) for line in artefact.path("metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def once(factory: pytest.TempPathFactory, name: str, config: LearnConfig) -> Artefact:
    """What it learns, which the first worker that asks trains. No test may change it."""
    folder = made_once(factory, name, lambda folder: learn.run(config, Store(folder / "store")))
    return learn.run(config, Store(folder / "store")).artefact


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, TOY.name, TOY)
        return once(tmp_path_factory, "toy-learned", config())


def test_rounds_of_play_and_practice_leave_an_agent_and_what_it_played(learned: Artefact) -> None:
    assert {"agent.json", "world.safetensors", "actor.safetensors", "curves.png", "sheet_Breakout.png"} <= set(
        learned.names()
    )
    shown = ("film_Breakout.gif", "sheet_Breakout.png")
    assert [name for name in learned.names() if name.endswith(shown)] == [
        *(f"checkpoints/step-{step}/{name}" for step in (18, 8) for name in shown),
        *shown,
    ], "what it sees and imagines on the way, and at its end; it has no actor that could dream"
    told = rows(learned)
    both = ["rounds/dynamics"] * 3 + ["rounds/imitation"] * 2
    assert [row["phase"] for row in told if row["phase"] != "play"] == (
        ["rounds/dynamics"] * 3 + both + ["check"] + both * 2 + ["check"]
    )
    index = json.loads(learned.path("checkpoints/index.json").read_text())
    assert [(row["step"], row["return"]) for row in told if row["phase"] == "check"] == [
        (each["step"], pytest.approx(each["returns"][GAME], abs=1e-6)) for each in index
    ], "the curve of returns"
    assert [row["steps_played"] for row in told if row["phase"] == "play"] == [90, 180, 270]
    assert {"dynamics", "imitation"} <= learned.manifest.metrics["losses"].keys()
    told_else = {"steps_played", "return", "codes_used"}
    assert not told_else & learned.manifest.metrics["losses"].keys(), "what turns and checks tell is no loss"
    played = Trajectories(learned.path(FILE_NAME))
    assert len(played) == 270 == learned.manifest.counts["frames"] and played.frame_shape == (64, 64, 3)
    assert played.terminals.sum() > 2, "a lost life ends an episode"
    assert learned.manifest.roots[0]["protocol"] == "iris-train" and learned.manifest.roots[0]["rom_md5"]
    assert learned.manifest.metrics["foresight"].keys() >= {"reward_invented", "end_invented"}


def test_what_it_played_is_what_the_emulator_shows_again(learned: Artefact) -> None:
    """Frame by frame, from the seed of the first game alone, through lost lives."""
    played = Trajectories(learned.path(FILE_NAME))
    game = collecting.Stage(GAME, registry.protocol("iris-train"), 2, config().seed).begin(0, 0)
    with_seed = registry.make(GAME, [game.seed], registry.protocol("iris-train"))
    frame = with_seed.reset()[0]
    for row in range(100):
        assert np.array_equal(played.frames(row, row + 1)[0], frame), row
        step = with_seed.step(to_shared(GAME, played.actions[row : row + 1]))
        assert float(step.rewards[0]) == played.rewards[row]
        frame = step.frames[0]
    with_seed.close()


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("turn", marks=pytest.mark.slow),
        pytest.param("commit", marks=pytest.mark.slow),
        "saved",
        pytest.param("update", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_it_goes_on_bit_for_bit(
    learned: Artefact, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the second turn; behind its commit; behind the state that was saved then; in an update."""
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        stop = {"turn": _in_a_turn, "commit": _behind_a_commit, "saved": _behind_a_state, "update": _in_an_update}[at]
        stop(patch)
        with pytest.raises(KeyboardInterrupt):
            learn.run(config(), store)
    again = learn.run(config(), store).artefact
    assert weights(again) == weights(learned) and rows(again) == rows(learned)
    ours, theirs = (Trajectories(each.path(FILE_NAME)) for each in (again, learned))
    assert np.array_equal(ours.frames(0, 270), theirs.frames(0, 270))
    assert np.array_equal(ours.actions, theirs.actions) and np.array_equal(ours.episode_starts, theirs.episode_starts)


@pytest.mark.slow
def test_what_a_kill_left_of_the_last_play_is_played_anew(
    learned: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.fit.examine", _stopped)
        with pytest.raises(KeyboardInterrupt):
            learn.run(config(), store)
    (left,) = store.scratch.glob("*/test/0.frames")
    left.write_bytes(b"torn")
    again = learn.run(config(), store).artefact
    assert weights(again) == weights(learned) and again.manifest.metrics["sight"] == learned.manifest.metrics["sight"]


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_two_workers_read_what_none_reads_however_the_episodes_grow(learned: Artefact, tmp_path: Path) -> None:
    with_workers = config(loop=replace(config().loop, workers=2))
    again = learn.run(with_workers, Store(tmp_path / "store")).artefact
    assert again.ref == learned.ref, "workers are in no key"
    assert weights(again) == weights(learned) and rows(again) == rows(learned)


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A run whose world is drawn by its losses, and whose actor by counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, TOY.name, TOY)
        return once(tmp_path_factory, "toy-remembering", drawn_by_memory())


def drawn_by_memory(**loop: Any) -> LearnConfig:
    world, actor = config().uses
    uses = (replace(world, sampling="losses"), replace(actor, sampling="counts"))
    return config(uses=uses, draws=Draws(power=3.0, share=0.5), loop=replace(config().loop, **loop))


@pytest.mark.slow
def test_draws_that_remember_change_what_is_learned(learned: Artefact, remembering: Artefact) -> None:
    assert remembering.ref.key != learned.ref.key
    pairs = [
        (weights(each)["world.safetensors"], weights(each)["actor.safetensors"]) for each in (learned, remembering)
    ]
    assert pairs[0][0] != pairs[1][0] and pairs[0][1] != pairs[1][1]
    assert config(draws=Draws()).spec().key == learned.ref.key, "defaults are in no key"


@pytest.mark.slow
@pytest.mark.parametrize("at", ["turn", "saved", "update"])
def test_what_draws_remember_survives_a_kill_bit_for_bit(
    remembering: Artefact, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        {"turn": _in_a_turn, "saved": _behind_a_state, "update": _in_an_update}[at](patch)
        with pytest.raises(KeyboardInterrupt):
            learn.run(drawn_by_memory(), store)
    again = learn.run(drawn_by_memory(workers=2), store).artefact
    assert weights(again) == weights(remembering) and rows(again) == rows(remembering)


def test_an_objective_that_tells_no_losses_is_not_drawn_by_them() -> None:
    line = r"'imitation' is drawn by its losses, .* \(those of toy that do: dynamics\): set learn\.uses\.imitation\."
    with pytest.raises(UsageError, match=line):
        config(sampling="losses")
    world, actor = config().uses
    assert config(uses=(replace(world, sampling="losses"), actor)).rules == {
        "dynamics": "losses",
        "imitation": "episodes",
    }


def _in_a_turn(patch: pytest.MonkeyPatch) -> None:
    real, steps = collecting.Collector._step, []

    def step(self, policy, playing, turn) -> None:  # type: ignore[no-untyped-def]
        steps.append(turn)
        if steps.count(1) == 30:
            raise KeyboardInterrupt
        real(self, policy, playing, turn)

    patch.setattr(collecting.Collector, "_step", step)
    patch.setattr(collecting, "BLOCK", 8)


def _behind_a_commit(patch: pytest.MonkeyPatch) -> None:
    real = collecting.Experience.commit

    def commit(self, games) -> None:  # type: ignore[no-untyped-def]
        real(self, games)
        if self.turns == 2:
            raise KeyboardInterrupt

    patch.setattr(collecting.Experience, "commit", commit)


def _behind_a_state(patch: pytest.MonkeyPatch) -> None:
    real = state.save

    def save(folder, position, *rest) -> None:  # type: ignore[no-untyped-def]
        real(folder, position, *rest)
        if (folder / "experience" / TURNS).read_text().count("\n") == 2:
            raise KeyboardInterrupt

    patch.setattr(state, "save", save)


def _in_an_update(patch: pytest.MonkeyPatch) -> None:
    from tests.models.toy_family.agent import ToyAgent

    real, asked = ToyAgent.loss, []

    def loss(self, *given):  # type: ignore[no-untyped-def]
        asked.append(1)
        if len(asked) == 10:
            raise KeyboardInterrupt
        return real(self, *given)

    patch.setattr(ToyAgent, "loss", loss)


def test_another_emulator_than_the_first_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        _behind_a_state(patch)
        with pytest.raises(KeyboardInterrupt):
            learn.run(config(), store)
    (steps,) = store.scratch.rglob("0.steps")
    damaged = np.fromfile(steps, step_of(GAME))
    damaged["rewards"][3] += 1
    damaged.tofile(steps)
    with pytest.raises(WorldlineError, match="the emulator is not the one that this training began with"):
        learn.run(config(), store)


def test_offline_it_learns_from_trajectories_and_plays_nothing(
    learned: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")

    def build(draft) -> None:  # type: ignore[no-untyped-def]
        draft.path(FILE_NAME).write_bytes(learned.path(FILE_NAME).read_bytes())
        draft.part("frames", digest="0" * 64)

    from tests.fakes import spec

    data = store.produce(spec("trajectories", GAME), build).artefact
    cut = segment.run(SegmentConfig(GAME, data.ref, length=8, stride=4), store).artefact
    assert cut.names() == ["segments.parquet"], "what an agent played can be cut as any trajectories"
    monkeypatch.setattr(collecting.Collector, "play", None)
    offline = config(collect=PlayTurns(steps=0), check=CheckPlay(every=0), trajectories=data.ref)
    made = learn.run(offline, store).artefact
    assert {row["phase"] for row in rows(made)} == {"rounds/dynamics", "rounds/imitation"}
    assert made.manifest.parents[0].ref == str(data.ref) and FILE_NAME not in made.names()
    assert made.manifest.metrics["sight"][GAME]["held_out_episodes"] == 1
    assert "end_invented" in made.manifest.metrics["foresight"], "of the held-out play"


def test_a_recipe_of_rounds_plans_its_data_only_where_nothing_is_played() -> None:
    recipe = Recipe("toy", games=(GAME,)).but(learn=config(game=""), evaluate=EvaluateConfig())
    assert Plan(recipe).steps() == [Step("world_model_agent", GAME), Step("scores", GAME)]
    offline = recipe.but(learn=config(game="", collect=PlayTurns(steps=0)))
    plan = Plan(offline)
    with pytest.raises(UsageError, match="no trajectories to learn from"):
        plan.config(plan.steps()[0]).check_frozen(plan)
