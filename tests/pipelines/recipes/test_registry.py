"""Every recipe can be found by its name, described in a line, and planned to its end."""

import pytest

from pipelines.errors import UsageError
from pipelines.graph.plan import Plan
from pipelines.recipes.registry import RECIPES, recipe

STAGES = Plan(recipe("demo")).stages


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_by_its_own_name_and_has_a_plan(name: str) -> None:
    found = recipe(name)
    assert found.name == name.removesuffix("_finetune").removesuffix("_imagined")  # they share what they start from
    assert len((RECIPES[name].__doc__ or "").splitlines()[0]) > 20
    if found.source == "bucket":
        with pytest.raises(UsageError, match="set replay_root"):
            Plan(found).config(Plan(found).steps()[0])
        tuned = {"finetuned"} if found.finetune else set()
        data_and_agent = {"replay", "trajectories", "world_model_agent", "scores"}
        stages = data_and_agent if found.learn else {*STAGES[1:]} | tuned
        assert {step.stage for step in Plan(found, "file:///bucket").steps()} == stages
    else:
        plan = Plan(found)
        data = set(STAGES[: STAGES.index("trajectories") + 1])
        learned = {"world_model_agent", "scores"} | (data if found.learn and found.learn.offline else set())
        watched = {"videos", "video_pretrained"} if found.pretrain_videos else set()
        acts = found.learn or not watched
        stages = (learned if found.learn else set(STAGES)) if acts else set()
        stages |= watched
        assert {plan.config(step).STAGE for step in plan.steps()} == stages


def test_overrides_are_applied_in_order() -> None:
    assert recipe("mini", ["seed=1", "seed=2"]).seed == 2


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"Unknown recipe 'demmo': did you mean 'demo'\? \('worldline recipe list'"):
        recipe("demmo")
    with pytest.raises(UsageError, match=r"choose one of|there are \d+ to choose from"):
        recipe("")
