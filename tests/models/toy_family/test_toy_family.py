"""A family that the pipelines have never heard of trains, is saved, loaded, evaluated and ranked by them.

Frames of another size and in colour pass through its plug, the player and the measurement of sight; stored episodes
and emulators are still Atari's grey 84 x 84.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.registry import FAMILIES
from pipelines.environments.atari.games import minimal_actions
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import Entrant
from pipelines.evaluation.players import AgentPlayer
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.experiment import register
from pipelines.graph.make import make, make_board
from pipelines.graph.plan import Plan
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import pick
from pipelines.training.diagnostics.reconstruction import reconstruct
from pipelines.training.schedule import Phase, Use
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


def test_its_recipe_survives_json() -> None:
    assert from_plain(Recipe, json.loads(json.dumps(to_plain(toy_recipe())))) == toy_recipe()


def test_a_planner_that_it_cannot_use_is_refused_by_name(tiny: TinyRun) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="family 'toy' cannot play by beam: choose from greedy"):
        Entrant("beam", 1, 10, 1, 0.0, 2, 2).require_fit("Breakout", ToyAgent(ToyConfig()))


def test_colours_and_another_size_pass_through_player_and_sight() -> None:
    agent = ToyAgent(ToyConfig(channels=3, height=64, width=48, grid=4))
    frames_NHWC = np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), dtype=np.uint8)
    player = AgentPlayer(Entrant("greedy", 1, 10, 1, 0.0), ["Pong"] * 5, agent)
    for row in range(5):
        player.begin(row, row)
    actions_N = player.act(frames_NHWC, range(5))
    assert actions_N.shape == (5,) and set(actions_N.tolist()) <= set(minimal_actions("Pong"))
    observations_NK, pictures_NHWC = reconstruct(agent, frames_NHWC, pick("float32"))
    assert observations_NK.shape == (5, 48) and pictures_NHWC.shape == frames_NHWC.shape
    blocks = frames_NHWC.reshape(5, 4, 16, 4, 12, 3).mean(axis=(2, 4)).round()
    assert np.array_equal(pictures_NHWC[:, ::16, ::12].round(), blocks)
    assert torch.equal(observations_NK.reshape(5, 3, 4, 4).movedim(1, -1), torch.as_tensor(blocks).long())
