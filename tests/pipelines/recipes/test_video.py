"""The video family's recipes: the originals' numbers, which world each agent goes on from, and what is refused."""

import re

import pytest
import torch

from models.dreamer.agent import DreamerAgent
from models.dreamer.config import DreamerConfig
from models.dreamer.systems import SYSTEMS
from pipelines.errors import UsageError
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.recipes.video import TASK, WATCHED
from pipelines.stages.learn import LearnConfig
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.stages.videos import VideosConfig
from pipelines.training.schedule import Collect as Turn
from pipelines.training.schedule import total_steps, unroll

GO_ON = {
    "apv": "apv_pretrain",
    "contextwm": "contextwm_pretrain",
    "prelar": "prelar_pretrain",
    "prelar_soft": "prelar_pretrain",
    "prelar_no_cl": "prelar_no_cl",
    "prelar_no_al_cl": "prelar_no_al_cl",
    "prelar_naive": "prelar_pretrain",
    "naive": "apv_pretrain",
}


def acts(name: str) -> DreamerConfig:
    found = recipe(name).of(LearnConfig).networks
    assert isinstance(found, DreamerConfig)
    return found


def watches(name: str) -> DreamerConfig:
    found = recipe(name).of(PretrainVideosConfig).world
    assert isinstance(found, DreamerConfig)
    return found


def test_play_and_updates_are_as_often_as_the_originals() -> None:
    learn = recipe("prelar").of(LearnConfig)
    rows = [(use.name, use.batch, use.lr, use.first, use.weight_decay, use.clip) for use in learn.uses]
    assert rows == [("world", 50, 3e-4, 100, 1e-6, 100.0), ("behaviour", 50, 8e-5, 100, 1e-6, 100.0)]
    assert learn.networks.length("world") == 51 and learn.networks.least("world") == 50
    assert set(learn.rules.values()) == {"ends"}
    turns = [item for item in unroll(learn.schedule) if isinstance(item, Turn)]
    assert (turns[0].steps, turns[0].epsilon, turns[1].epsilon) == (5_000, 1.0, 0.0)
    assert sum(turn.steps for turn in turns) == 255_000 == learn.steps_played
    assert total_steps(learn.schedule) == 2 * (100 + 250_000 // 5)
    assert (learn.check.every * learn.collect.steps, learn.check.episodes) == (10_000, 10)


@pytest.mark.parametrize("name", sorted({*GO_ON.values()} - {"prelar_no_cl", "prelar_no_al_cl"}))
def test_a_world_of_videos_learns_600_000_steps_of_16_segments(name: str) -> None:
    (phase,) = recipe(name).of(PretrainVideosConfig).phases
    assert (phase.steps, phase.rows, phase.uses[0].lr, phase.weight_decay, phase.clip) == (600_000, 16, 3e-4, 1e-6, 100)
    assert watches(name).segment == 25 and recipe(name).template("learn") is None
    assert len(recipe(name).of(VideosConfig).resolved_tasks()) == 44


@pytest.mark.parametrize("name", GO_ON)
def test_each_agent_goes_on_from_the_world_that_is_its_own(name: str) -> None:
    changed = {"consistency": "soft"} if name == "prelar_soft" else {}
    want = SYSTEMS[GO_ON[name]]().plain() | changed | {"segment": 25}
    assert watches(name).plain() == want
    plan = Plan(recipe(name))
    learned = plan.config(Step("world_model_agent", "reach"))
    assert isinstance(learned, LearnConfig) and learned.world == plan.ref(Step("video_pretrained"))
    assert plan.stages == ("videos", "video_pretrained", "world_model_agent", "scores")
    with torch.device("meta"):
        mine, theirs = DreamerAgent(acts(name)), DreamerAgent(watches(name))
    carried = mine.world_model.rssm if mine.world_model.first is None else mine.world_model.first
    for ours, other in ((mine.world_model.encoder, theirs.world_model.encoder), (carried, theirs.world_model.rssm)):
        shapes = [{key: each.shape for key, each in module.state_dict().items()} for module in (ours, other)]
        assert shapes[0] == shapes[1]


def test_the_small_ones_differ_by_their_videos_alone() -> None:
    with_videos, scratch = recipe("prelar_mini"), recipe("prelar_mini_scratch")
    assert with_videos.evaluate == scratch.evaluate and with_videos.games == scratch.games == (TASK,)
    assert TASK not in WATCHED
    mine, other = (each.of(LearnConfig) for each in (with_videos, scratch))
    assert mine.uses == other.uses and mine.collect == other.collect and mine.rounds == other.rounds
    differ = {
        key for key, value in acts("prelar_mini").plain().items() if acts("prelar_mini_scratch").plain()[key] != value
    }
    assert differ == {"split", "delay"}
    DreamerAgent(acts("prelar_mini")).take_over(DreamerAgent(watches("prelar_mini")))
    assert recipe("dreamerv2_mini").template("videos") is None


@pytest.mark.parametrize(
    ("name", "games", "words"),
    [
        ("prelar", "Pong", "cannot be played under 'metaworld'"),
        ("iris", "reach", "reach cannot be played under 'iris'"),
    ],
)
def test_agents_and_games_of_other_kinds_are_refused(name: str, games: str, words: str) -> None:
    chosen = recipe(name).but(games=(games,))
    plan = Plan(chosen)
    with pytest.raises(UsageError, match=re.escape(words)):
        for step in plan.steps():
            plan.config(step).check_frozen(plan)


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'drawer-open'"):
        recipe("prelar").but(games=("drawer-opne",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learn.ends=true", "Recipe 'prelar': learn.ends=true learns ends from the frame behind the last action"),
        ("learn.rssm.deter=512", "learn.rssm differs from pretrain_videos.rssm"),
        ("learn.action_encoder.width=32", "learn.room: this world reads 32 numbers an action"),
        ("pretrain_videos.foreseen=5", "pretrain_videos.foreseen 5 is impossible"),
        ("learn.actions=3", "set learn.actions=4"),
    ],
)
def test_what_would_fail_behind_the_videos_is_refused_before(change: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        plan = Plan(recipe("prelar", [change]))
        for step in plan.steps():
            plan.config(step).check_frozen(plan)


def test_other_videos_take_the_place_of_the_experts() -> None:
    found = recipe("prelar", ["videos.source=npz", f"videos.content={'0' * 64}"])
    assert found.of(VideosConfig).source == "npz"
