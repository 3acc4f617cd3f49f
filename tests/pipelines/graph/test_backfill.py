"""What a backfill is of: whose steps, in which lanes, what waits for what, and what a look ahead says."""

import shutil
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.graph.backfill import (
    FAILED,
    MADE,
    THERE,
    WAITS,
    Outcome,
    as_asked,
    choose,
    exit_code,
    experiment_for,
    lanes,
    missing,
    of_all,
    prospect,
    read_step,
    total,
    waiting,
    with_parents,
)
from pipelines.graph.experiment import register
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from tests.fakes import flip_byte
from tests.pipelines.conftest import TinyRun


def test_what_is_asked_brings_all_that_it_is_made_from() -> None:
    plan = Plan(recipe("demo"))
    found = [str(step) for step in with_parents(plan, choose(plan, "tokens", "tokens", ["Boxing"]))]
    assert found[0] == "collected_replay/Boxing" and found[-1] == "tokens/Boxing"
    assert "segments/Freeway" in found, "the networks are of all games"
    assert "tokens/Freeway" not in found and len(found) == len(set(found)) == 12
    assert with_parents(plan, plan.steps()) == plan.steps()


def test_stages_of_all_games_are_told_to_who_asks_for_some() -> None:
    plan = Plan(recipe("demo"))
    told = of_all(plan, choose(plan, "scores", games=["Boxing"]), ["Boxing"])
    assert told.startswith("--games Boxing does not narrow pretrained, world_action_model, which are of all games")
    for until, only, games in (
        ("scores", None, ()),
        ("scores", None, ("Boxing", "Freeway")),
        ("scores", "pretrained", ("Freeway", "Boxing")),
        ("segments", None, ("Boxing",)),
        ("scores", "scores", ("Boxing",)),
    ):
        assert not of_all(plan, choose(plan, until, only, games), games), (until, only, games)


def test_games_have_lanes_of_their_own_between_stages_of_all() -> None:
    plan = Plan(recipe("demo"))
    found = lanes(choose(plan, "scores"))
    names = [lane.name for lane in found]
    assert names == [
        "Boxing", "Freeway", "pretrained", "Boxing", "Freeway", "world_action_model", "Boxing", "Freeway",
        "leaderboard",
    ]  # fmt: skip
    assert [str(step) for step in found[1].steps] == [
        "collected_replay/Freeway", "replay/Freeway/1", "replay/Freeway/2", "trajectories/Freeway", "segments/Freeway",
    ]  # fmt: skip
    assert {step for lane in found for step in lane.steps} == {*choose(plan, "scores")}


def test_a_step_waits_for_a_lost_parent_and_the_leaderboard_for_all() -> None:
    plan = Plan(recipe("demo"))
    steps = choose(plan, "scores")
    lost = [Step("scores", "Boxing")]
    assert waiting(plan, Step("leaderboard"), steps, lost) == ""
    assert waiting(plan, Step("leaderboard"), steps, [*lost, Step("scores", "Freeway")]) == "scores/Boxing"
    assert waiting(plan, Step("pretrained"), steps, [Step("segments", "Freeway")]) == "segments/Freeway"
    assert waiting(plan, Step("segments", "Boxing"), steps, [Step("segments", "Freeway")]) == ""


def test_the_end_is_one_line_and_a_code() -> None:
    step = Step("replay", "Pong", 1)
    made, there = Outcome(step, MADE), Outcome(step, THERE)
    wrong, broken = Outcome(step, FAILED, code=2), Outcome(step, FAILED, code=1)
    assert total([there, there]) == "Everything was already there."
    assert total([made, there, wrong, Outcome(step, WAITS)]) == "1 made, 1 already there, 1 wait for what failed."
    assert [exit_code(each) for each in ([there], [wrong], [wrong, made], [wrong, broken])] == [0, 2, 1, 1]
    assert read_step(str(step)) == step and read_step("pretrained") == Step("pretrained")


def test_new_games_get_the_experiment_of_that_very_recipe(tmp_path: Path) -> None:
    asked = recipe("mini", ["games=Pong,Qbert"])
    fresh = experiment_for(tmp_path, asked)
    assert fresh.name == "mini-Pong-Qbert" and not list(tmp_path.iterdir()), "a look registers nothing"
    mine = register(tmp_path, "mine", asked)
    assert experiment_for(tmp_path, asked) == mine
    assert experiment_for(tmp_path, recipe("mini", ["games=Pong,Qbert", "collect.seed=1"])).name == "mini-Pong-Qbert"
    register(tmp_path, "mini-Pong-Qbert", recipe("mini"))
    other = experiment_for(tmp_path, recipe("mini", ["games=Pong,Qbert", "collect.seed=1"]))
    assert other.name == "mini-Pong-Qbert-2"
    many = experiment_for(tmp_path, recipe("mini", ["games=Pong,Qbert,Boxing,Freeway"]))
    assert many.name == "mini-4-games"


def test_a_game_that_an_experiment_lacks_is_one_line_with_two_ways(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    register(tmp_path, "mine", recipe("mini"))
    with pytest.raises(UsageError) as raised:
        as_asked(tmp_path, ["Pong", "Qbert"], "tokens", store, None, "mine")
    said = str(raised.value)
    assert said.startswith("Experiment 'mine' is of Pong, not of Qbert, and frozen: leave --experiment out to have one")
    assert "worldline experiment new NAME --recipe mini --games Pong,Qbert" in said
    asked = as_asked(tmp_path, ["Pong"], "segments", store, None, "mine")
    assert asked.experiment is not None and asked.steps[-1] == Step("segments", "Pong")
    data = as_asked(tmp_path, ["Qbert"], "trajectories", store, recipe("mini", ["games=Qbert"]))
    assert data.experiment is None and [step.game for step in data.steps] == ["Qbert"] * 3
    with pytest.raises(UsageError, match="Unknown stage 'token'"):
        as_asked(tmp_path, ["Pong"], "token", store, recipe("mini"))


def test_a_look_ahead_says_what_stands_what_is_made_and_why(tiny_copy: TinyRun) -> None:
    plan, store, steps = tiny_copy.plan, tiny_copy.store, choose(tiny_copy.plan, "leaderboard")

    def look() -> dict[str, tuple[str, str]]:
        found = prospect(plan, steps, store, tiny_copy.experiment)
        return {each.step.stage: (each.state, each.text) for each in found}

    assert {state for state, _ in look().values()} == {THERE}
    assert missing(plan, steps, store) == []
    shutil.rmtree(tiny_copy.made["tokens"].folder)
    shutil.rmtree(tiny_copy.made["world_action_model"].folder)
    found = look()
    assert found["tokens"] == (MADE, "nothing of these settings is there")
    assert found["world_action_model"] == (MADE, "after tokens/Breakout")
    assert found["pretrained"] == (THERE, str(tiny_copy.made["pretrained"].ref))
    assert [step.stage for step in missing(plan, steps, store)] == ["tokens", "world_action_model"]
    segments = tiny_copy.made["segments"]
    (segments.folder / segments.names()[0]).write_bytes(b"")
    state, why = look()["segments"]
    assert state == FAILED and "is damaged" in why
    flip_byte(segments.folder / "manifest.json")
    assert look()["segments"][0] == FAILED
