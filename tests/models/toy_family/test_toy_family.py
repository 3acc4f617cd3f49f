"""A family that the pipelines have never heard of trains, is saved, loaded, evaluated and ranked by them.

Once on the stored grey 84 x 84 of DQN-Replay, and once on 64 x 64 in colour as the emulator shows them under "iris".
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.registry import FAMILIES
from pipelines.environments import registry
from pipelines.environments.actions import own_actions, to_shared
from pipelines.environments.atari.games import minimal_actions
from pipelines.episodes.trajectories import FILE_NAME, FLAT, Trajectories, TrajectoryWriter
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.players import AgentPlayer
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.experiment import register
from pipelines.graph.make import make, make_board
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import recipe
from pipelines.stages import evaluate, report, segment, train
from pipelines.stages.report import ReportConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import pick
from pipelines.training.diagnostics import reconstruct
from pipelines.training.schedule import Phase, Use
from tests import fakes
from tests.models.toy_family.agent import ToyAgent
from tests.models.toy_family.family import TOY, ToyConfig
from tests.pipelines.conftest import TINY, TinyRun, tiny  # noqa: F401 -- a fixture


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that a family adds outside its folder."""
    monkeypatch.setitem(FAMILIES, TOY.name, TOY)


def toy_recipe() -> Recipe:
    """The tiny run's data, learned and played by the toy; it has no tokens, so no stage that makes or reads them."""
    tiny_recipe = recipe("mini", TINY)
    both = Phase("both", 30, (Use("dynamics", 8, lr=3e-3), Use("imitation", 8, lr=3e-3)))
    pretrain = replace(tiny_recipe.pretrain, networks=ToyConfig(), phases=(both,))
    evaluate = replace(tiny_recipe.evaluate, beam_episodes=0)
    return tiny_recipe.but(name="toy", pretrain=pretrain, tokenize=None, train=None, evaluate=evaluate)


def test_the_pipelines_train_save_load_evaluate_and_rank_it(tiny: TinyRun, tmp_path: Path) -> None:  # noqa: F811
    ours = tiny.copy(tmp_path / "home")
    experiment = register(ours.home / "experiments", "toy", toy_recipe())
    plan, store = Plan(experiment.recipe), Store(ours.home / "store")
    made = {step.stage: make(plan, step, store, experiment) for step in plan.steps()}
    assert {name for name, report in made.items() if report.skipped} == {
        "collected_replay", "replay", "trajectories", "segments"
    }, "data do not depend on who learns from them"  # fmt: skip
    trained = made["pretrained"].artefact
    assert {"agent.json", "world.safetensors", "actor.safetensors", "sheet_Breakout.png"} <= set(trained.names())
    assert json.loads(trained.path("agent.json").read_text())["family"] == "toy"
    rows = [json.loads(line) for line in trained.path("metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["imitation"] < rows[0]["imitation"] and rows[-1]["dynamics"] < rows[0]["dynamics"]
    again = load_agent(trained, pick("float32"))
    assert isinstance(again, ToyAgent) and again.config == ToyConfig()
    scores = made["scores"].artefact
    assert scores.manifest.metrics["greedy"]["episodes"] == 2 and "episodes.parquet" in scores.names()
    page = make_board(store).artefact.path("index.html").read_text()
    assert experiment.key in page and ours.experiment.key in page


def colourful(store: Store, steps: int = 120) -> Artefact:
    """Trajectories of random play at 64 x 64 in RGB, an episode a life."""
    game = registry.make("Breakout", [7], registry.protocol("iris-train"))
    draws, frames, played = np.random.default_rng(0), [], []
    here = game.reset()[0]
    for _ in range(steps):
        own = int(draws.integers(len(own_actions("Breakout"))))
        step = game.step(to_shared("Breakout", [own]))
        frames.append(here)
        played.append((own, step.rewards[0], step.terminated[0], step.truncated[0]))
        here = step.frames[0]
    game.close()
    actions, rewards, terminals, truncations = (np.array(column) for column in zip(*played, strict=True))
    truncations[-1] = not terminals[-1]
    ends = np.flatnonzero(terminals | truncations) + 1

    def build(draft: Draft) -> None:
        names, lengths = own_actions("Breakout"), np.diff(ends, prepend=0).tolist()
        with TrajectoryWriter(draft.path(FILE_NAME), "Breakout", names, lengths, (64, 64, 3)) as writer:
            writer.write("observations", 0, np.stack(frames))
            for name, values in zip(FLAT, (actions, rewards, terminals, truncations), strict=True):
                writer.write(name, 0, values)

    return store.produce(fakes.spec("trajectories", "Breakout"), build).artefact


@pytest.mark.slow
def test_colours_of_another_size_go_through_every_stage(tiny: TinyRun, tmp_path: Path) -> None:  # noqa: F811
    store = Store(tmp_path / "store")
    data = colourful(store)
    assert Trajectories(data.path(FILE_NAME)).frame_shape == (64, 64, 3)
    cut = segment.run(SegmentConfig("Breakout", data.ref, length=8, stride=4), store).artefact
    both = Phase("both", 30, (Use("dynamics", 8, lr=3e-3), Use("imitation", 8, lr=3e-3)))
    learn = replace(
        tiny.experiment.recipe.pretrain,
        name="toy",
        games=("Breakout",),
        networks=ToyConfig(channels=3, height=64, width=64, grid=4),
        phases=(both,),
        trajectories=(data.ref,),
        segments=(cut.ref,),
    )
    trained = train.run(learn, store).artefact
    rows = [json.loads(line) for line in trained.path("metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["imitation"] < rows[0]["imitation"] and rows[-1]["dynamics"] < rows[0]["dynamics"]
    assert "Breakout" in trained.manifest.metrics["sight"]
    assert Image.open(trained.path("sheet_Breakout.png")).mode == "RGB"
    assert json.loads(trained.path("agent.json").read_text())["spaces"]["frame"] == [64, 64, 3]
    asked = replace(tiny.plan.config(Step("scores", "Breakout")), agent=trained.ref, collected=None, beam_episodes=0)
    with pytest.raises(UsageError, match="sees frames of 64x64 RGB, Breakout under 'jowa' shows 84x84 grey"):
        evaluate.run(replace(asked, protocol="jowa"), store)
    scores = evaluate.run(replace(asked, protocol="iris"), store).artefact
    assert scores.manifest.metrics["greedy"]["episodes"] == 2
    assert scores.manifest.roots[0]["protocol"] == "iris"
    page = report.run(ReportConfig((scores.ref,), ("toy",)), store).artefact.path("index.html").read_text()
    assert "Breakout" in page and "iris" in page


def test_its_recipe_survives_json() -> None:
    assert from_plain(Recipe, json.loads(json.dumps(to_plain(toy_recipe())))) == toy_recipe()


def test_a_planner_that_it_cannot_use_is_refused_by_name(tiny: TinyRun) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="family 'toy' cannot play by beam: choose from greedy"):
        PlayerSettings("beam", 1, 10, 1, 0.0, 2, 2).require_fit(
            "Breakout", ToyAgent(ToyConfig()), registry.protocol("jowa")
        )


def test_colours_and_another_size_pass_through_player_and_sight() -> None:
    agent = ToyAgent(ToyConfig(channels=3, height=64, width=48, grid=4))
    frames_NHWC = np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), dtype=np.uint8)
    player = AgentPlayer(PlayerSettings("greedy", 1, 10, 1, 0.0), ["Pong"] * 5, agent)
    for row in range(5):
        player.begin(row, row)
    actions_N = player.act(frames_NHWC, range(5))
    assert actions_N.shape == (5,) and set(actions_N.tolist()) <= set(minimal_actions("Pong"))
    observations_NK, pictures_NHWC = reconstruct(agent, frames_NHWC, pick("float32"))
    assert observations_NK.shape == (5, 48) and pictures_NHWC.shape == frames_NHWC.shape
    blocks = frames_NHWC.reshape(5, 4, 16, 4, 12, 3).mean(axis=(2, 4)).round()
    assert np.array_equal(pictures_NHWC[:, ::16, ::12].round(), blocks)
    assert torch.equal(observations_NK.reshape(5, 3, 4, 4).movedim(1, -1), torch.as_tensor(blocks).long())
