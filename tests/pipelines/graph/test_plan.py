"""The plan: which artefacts a recipe consists of, and what a change of one field changes, no more and no less."""

import json
import re
from pathlib import Path

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.experiment import Experiment
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.graph.table import DATA_STAGES
from pipelines.recipes.registry import recipe
from pipelines.stages.import_weights import ReleasedConfig
from tests.pipelines.sources.dqn_replay.toy import write_replay

STAGES = Plan(recipe("mini")).stages
LEARNING = tuple(stage for stage in STAGES if stage not in DATA_STAGES)


def keys(*changes: str) -> dict[str, str]:
    plan = Plan(recipe("mini", changes))
    return {step.stage: plan.config(step).spec().key for step in plan.steps()}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("collect.seed=1", STAGES),
        ("collect.sticky=0.1", STAGES),
        ("downsample.seed=1", STAGES[2:]),
        ("segment.stride=2", ("segments", "pretrained", "tokens", "world_action_model", "scores")),
        ("seed=1", LEARNING),
        ("pretrain.sight_frames=9", LEARNING),
        ("pretrain.model.width=64", LEARNING),
        ("tokenize.batch_frames=2", LEARNING[1:]),
        ("train.phases.world_action.steps=9", LEARNING[2:]),
        ("evaluate.episodes=9", ("scores",)),
        ("evaluate.protocol=jowa", ("scores",)),
    ],
)
def test_a_key_changes_when_and_only_when_something_upstream_does(change: str, moved: tuple[str, ...]) -> None:
    before, after = keys(), keys(change)
    assert {stage for stage in before if before[stage] != after[stage]} == set(moved)


def test_a_recipe_of_another_name_shares_all_keys() -> None:
    assert len({*keys().items(), *keys("name=other").items()}) > len(STAGES)  # the name is part of what is trained
    assert all(keys()[stage] == keys("name=other")[stage] for stage in STAGES if stage in DATA_STAGES)


def test_another_game_leaves_the_data_of_the_first_alone() -> None:
    one, two = Plan(recipe("mini")), Plan(recipe("mini", ["games=Pong,Qbert"]))
    for stage in ("collected_replay", "trajectories", "segments"):
        assert one.config(Step(stage, "Pong")) == two.config(Step(stage, "Pong"))
    assert one.config(Step("pretrained")) != two.config(Step("pretrained"))


def test_parents_come_before_children_and_belong_to_the_plan() -> None:
    plan = Plan(recipe("demo"))
    seen = set()
    for step in plan.steps():
        spec = plan.config(step).spec()
        assert set(spec.parents) <= seen, step
        seen.add(spec.ref)
    assert len(seen) == len(plan.steps()) == 2 + 4 + 2 + 2 + 1 + 2 + 1 + 2


def test_steps_end_with_the_stage_that_was_asked_for() -> None:
    assert [str(step) for step in Plan(recipe("mini")).steps("trajectories")] == [
        "collected_replay/Pong",
        "replay/Pong/1",
        "trajectories/Pong",
    ]


def test_an_unknown_stage_is_refused() -> None:
    plan = Plan(recipe("mini"))
    with pytest.raises(UsageError, match=r"Unknown stage 'token': did you mean 'tokens'\?"):
        plan.steps("token")
    with pytest.raises(UsageError, match="Stage 'leaderboard' is not in recipe 'mini'"):
        plan.config(Step("leaderboard"))
    with pytest.raises(UsageError, match="Unknown game 'Bong': did you mean"):
        plan.config(Step("tokens", "Bong"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "pretrain.model.vocab_size=65",
            "pretrain.tokenizer.vocab_size is 64 but model.vocab_size is 65: they must be equal, set both",
        ),
        ("segment.length=4", "segment.length is 4 but model.max_steps is 8: they must be equal, set both"),
        ("pretrain.model.tokens_per_frame=9", "tokens is 36 but model.tokens_per_frame is 9"),
        ("evaluate.context=9", "evaluate.context is 9 but the model sees 8 steps"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_anything_is_made(change: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Plan(recipe("mini", [change]))


def test_sizes_may_be_changed_together() -> None:
    changed = Plan(recipe("mini", ["pretrain.tokenizer.vocab_size=32", "pretrain.model.vocab_size=32"]))
    assert changed.config(Step("pretrained")).networks.model.vocab_size == 32


def test_a_bucket_is_named_by_what_it_lists(tmp_path: Path) -> None:
    write_replay(tmp_path, [20, 20], game="Pong")
    plan = Plan(recipe("mini", ["source=bucket"]), f"file://{tmp_path}")
    assert [step.stage for step in plan.steps()] == list(STAGES[1:])
    before = plan.config(Step("replay", "Pong", 1))
    assert before.url == f"file://{tmp_path}"
    assert plan.config(Step("scores", "Pong")).collected is None
    log = next(tmp_path.rglob("*reward*"))
    log.write_bytes(log.read_bytes() + b"more")
    assert plan.config(Step("replay", "Pong", 1)) == before  # one plan lists once
    later = Plan(plan.recipe, plan.bucket)
    assert later.config(Step("replay", "Pong", 1)).spec().key != before.spec().key


def test_a_bucket_must_be_named_and_there(tmp_path: Path) -> None:
    unnamed = Plan(recipe("mini", ["source=bucket"]))
    with pytest.raises(UsageError, match="the storage profile names none: set replay_root in it"):
        unnamed.config(Step("tokens", "Pong"))
    with pytest.raises(WorldlineError, match=r"does not exist .*: check the bucket URL, game and agent"):
        Plan(recipe("mini", ["source=bucket"]), f"file://{tmp_path}").config(Step("tokens", "Pong"))


def test_an_agent_to_go_on_with_is_named_where_the_plan_makes_none_and_is_a_parent_as_any_other() -> None:
    address = f"imported/theirs/{'a' * 16}"
    named = recipe("iris", [f"learn.agent={address}"])
    (step, *_) = Plan(named).steps()
    config = Plan(named).config(step)
    assert [str(parent) for parent in config.parents] == [address]
    assert config.spec().key != Plan(recipe("iris")).config(step).spec().key
    again = from_plain(Recipe, json.loads(json.dumps(to_plain(named))))
    assert again == named and Experiment("one", again).key == Experiment("one", named).key
    assert Experiment("one", named).key != Experiment("one", recipe("iris")).key
    released = ReleasedConfig(file_sha256="0" * 64, file="Pong.pt", networks=named.learn.networks)
    assert str(Plan(recipe("iris").but(released=released)).agent_of(step)).startswith("imported/")
    both = Plan(named.but(released=released))
    with pytest.raises(UsageError, match=r"makes imported itself: leave learn\.agent \(imported/theirs/a+\) out"):
        both.config(step)
