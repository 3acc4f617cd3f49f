"""Recipes survive the trip through JSON, overrides keep their types, and every refusal says what to do."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.graph.config_io import from_plain, override, to_plain
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import RECIPES, recipe

WHOLE = (
    "collect.steps",
    "downsample.seed",
    "train.phases.world_action.steps",
    "evaluate.episodes",
    "evaluate.beam_steps",
)
REAL = ("evaluate.epsilon", "pretrain.networks.tokenizer.ema_decay", "train.phases.world_action.weight_decay")
SWITCHES = (
    "pretrain.networks.tokenizer.cosine",
    "pretrain.networks.model.task_embedding",
    "train.phases.world_action.decay",
)


def through_json(value: Recipe) -> Recipe:
    return from_plain(Recipe, json.loads(json.dumps(to_plain(value))))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path; members of a tuple that have a name go by it, as in overrides."""
    if isinstance(value, dict):
        return {leaf: found for name, item in value.items() for leaf, found in flat(item, f"{path}.{name}").items()}
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return {leaf: found for item in value for leaf, found in flat(item, f"{path}.{item['name']}").items()}
    return {path.lstrip("."): value}


def changed(before: Recipe, after: Recipe) -> dict[str, Any]:
    old, new = flat(to_plain(before)), flat(to_plain(after))
    return {name: new[name] for name in new if new[name] != old[name] or type(new[name]) is not type(old[name])}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_json_as_it_was(name: str) -> None:
    assert through_json(recipe(name)) == recipe(name)


FROM_REPLAY = sorted(name for name in RECIPES if recipe(name).collect and recipe(name).pretrain)  # have all of WHOLE


@given(st.sampled_from(FROM_REPLAY), st.sampled_from(WHOLE), st.integers(1, 60_000))
def test_a_whole_number_changes_its_field_alone(name: str, path: str, value: int) -> None:
    before = recipe(name)
    after = override(before, f"{path}={value:_}")
    assert changed(before, after) in ({path: value}, {})
    assert flat(to_plain(after))[path] == value
    assert through_json(after) == after


@given(st.sampled_from(REAL), st.floats(0, 1, exclude_max=True))
def test_a_real_number_keeps_every_digit(path: str, value: float) -> None:
    after = override(recipe("mini"), f"{path}={value!r}")
    assert flat(to_plain(after))[path] == value
    assert through_json(after) == after


@given(st.sampled_from(SWITCHES), st.booleans(), st.sampled_from([str.lower, str.upper, str.title]))
def test_a_switch_takes_true_and_false_however_written(path: str, value: bool, write: Any) -> None:
    assert flat(to_plain(override(recipe("demo"), f"{path}={write(str(value))}")))[path] is value


@given(st.text(max_size=40))
def test_any_text_is_an_override_or_one_line_that_says_why_not(text: str) -> None:
    try:
        after = override(recipe("mini"), text)
    except UsageError as error:
        assert str(error)
    else:
        assert through_json(after) == after


def test_tuples_and_choices_are_read_by_their_type() -> None:
    found = recipe("mini", ["games=Pong,Qbert", "collect.agents=3", "agents=3,1", "pretrain.tokenizer.channel_mult="])
    assert (found.games, found.agents, found.pretrain.networks.tokenizer.channel_mult) == (
        ("Pong", "Qbert"),
        (3, 1),
        (),
    )
    assert override(recipe("demo"), "evaluate.protocol=jowa").evaluate.protocol == "jowa"


def test_a_whole_number_in_json_may_stand_for_a_real_one() -> None:
    data = to_plain(recipe("mini"))
    data["evaluate"]["epsilon"] = 0
    found = from_plain(Recipe, data).evaluate.epsilon
    assert (found, type(found)) == (0.0, float)


def test_overrides_are_applied_at_once_in_any_order() -> None:
    pair = ("collect.agents=1", "agents=1")
    found = override(recipe("demo"), *pair)
    assert found.agents == (1,) and found.collect.agents == 1
    assert found == override(recipe("demo"), *reversed(pair))
    with pytest.raises(UsageError, match="reads agent 2 but collects only 1"):
        override(recipe("demo"), pair[0])


def test_of_two_values_the_later_counts_and_siblings_stay() -> None:
    phase = "pretrain.phases.world"
    found = override(recipe("mini"), f"{phase}.steps=7", "seed=3", f"{phase}.batch=5", f"{phase}.steps=9")
    world = next(one for one in found.pretrain.phases if one.name == "world")
    assert (world.steps, world.uses[0].batch, found.seed) == (9, 5, 3)
    assert override(recipe("mini")) == recipe("mini")


def test_fields_of_an_inner_config_read_as_if_they_stood_beside_it() -> None:
    short, long = "pretrain.model.width=64", "pretrain.networks.model.width=64"
    assert override(recipe("mini"), short) == override(recipe("mini"), long)
    assert override(recipe("mini"), short).pretrain.networks.model.width == 64
    both = recipe("jowa_40m", ["pretrain.phases.tokenizer_and_world.tokenizer.batch=9"]).pretrain.phases[0]
    assert [use.batch for use in both.uses] == [9, 512]
    assert recipe("mini", ["tune.contexts=1,2", "tune.max_steps=3"]).tune.grid.max_steps == 3


def test_a_name_of_networks_and_objectives_means_the_networks_and_the_error_tells_the_whole_path() -> None:
    learn = recipe("iris", ["learn.tokenizer.vocab_size=64", "learn.uses.tokenizer.updates=3"]).learn
    assert learn.networks.tokenizer.vocab_size == 64 and learn.uses[0].updates == 3
    with pytest.raises(UsageError) as caught:
        recipe("iris", ["learn.tokenizer.updates=3"])
    assert str(caught.value) == (
        "Unknown field 'learn.tokenizer.updates', which means learn.networks.tokenizer.updates: write "
        "learn.uses.tokenizer.updates=3"
    )
    with pytest.raises(UsageError, match=r"Unknown field 'learn\.tokenizer\.updtes': did you mean"):
        recipe("iris", ["learn.tokenizer.updtes=3"])


REFUSED = {
    "seed": "'seed' is no override: write field.path=value",
    "=1": "'=1' is no override: write field.path=value",
    "sed=1": "Unknown field 'sed': did you mean 'seed'?",
    "collect.step=1": "Unknown field 'collect.step': did you mean 'collect.steps'?",
    "collect..steps=1": "Unknown field 'collect.'",
    "pretrain.modl.width=64": "Unknown field 'pretrain.modl': did you mean 'pretrain.model'?",
    "pretrain.phases.world.btch=64": "Unknown field 'pretrain.phases.world.btch': did you mean 'pretrain",
    "collect.policy=scrip": "Override 'collect.policy=scrip': did you mean 'script'? choose from script, random",
    "pretrian.model.width=64": "Unknown field 'pretrian': did you mean 'pretrain'?",
    "seed=one": "Override 'seed=one': the field is a whole number",
    "seed=1.5": "Override 'seed=1.5': the field is a whole number",
    "seed=": "Override 'seed=': the field is a whole number",
    "evaluate.epsilon=nan": "Override 'evaluate.epsilon=nan': the field is a number",
    "evaluate.epsilon=inf": "Override 'evaluate.epsilon=inf': the field is a number",
    "evaluate.epsilon=1.5": "epsilon 1.5 is impossible: it must be from 0 to 1",
    "seed.more=1": "Override 'seed.more=1': 'more' lies below a plain value; 'worldline recipe show NAME'",
    "collect=1": "Override 'collect=1': name one of its fields instead, for example collect.FIELD=...",
    "pretrain.phases=1": "Override 'pretrain.phases=1': name one of its fields instead",
    "pretrain.phases.world=1": "Override 'pretrain.phases.world=1': name one of its fields instead",
    "pretrain.phases.word.steps=1": "Unknown member 'pretrain.phases.word': did you mean 'pretrain.phases.world'?",
    "evaluate.agent=a/b/c": "parents follow from the plan and cannot be set",
    "pretrain.segments=a/b/c": "parents follow from the plan and cannot be set",
    "pretrain.tokenizer.cosine=yes": "the field is true or false",
    "pretrain.tokenizer.quantizer=emma": "choose from straight_through, ema",
    "pretrain.model.width=33": "Override 'pretrain.model.width=33': Width 33 does not divide into 2 heads",
    "pretrain.tokenizer.patch_stem=5": "choose factors whose product divides it",
    "collect.steps=-5": "collect.steps -5 is impossible: it must be at least 1",
    "games=MsPackman": "Unknown game 'MsPackman': did you mean 'MsPacman'?",
}


@pytest.mark.parametrize("assignment", REFUSED)
def test_a_wrong_override_is_refused_with_value_rule_and_repair(assignment: str) -> None:
    with pytest.raises(UsageError, match=re.escape(REFUSED[assignment])) as caught:
        override(recipe("mini"), assignment)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Odd:
    """One field of every kind that JSON may get wrong."""

    count: int = 0
    rate: float = 0.0
    flag: bool = False
    words: tuple[str, ...] = ()
    choice: Literal["a", "b"] = "a"
    maybe: str | None = None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"count": "1"}, "count"),
        ({"count": True}, "count"),
        ({"count": 1.0}, "count"),
        ({"count": None}, "count"),
        ({"rate": "0.1"}, "rate"),
        ({"rate": False}, "rate"),
        ({"flag": 1}, "flag"),
        ({"words": "ab"}, "words must be a list, it is 'ab'"),
        ({"words": ["a", 1]}, "words[1]"),
        ({"choice": "c"}, "choice must be one of a, b, it is 'c'"),
        ({"maybe": 3}, "maybe"),
        ({"cuont": 3}, "Unknown field 'cuont': did you mean 'count'?"),
        ([], "must be a mapping of fields, it is []"),
        (None, "must be a mapping of fields, it is None"),
    ],
)
def test_json_of_the_wrong_type_names_the_field(data: Any, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        from_plain(Odd, data)


def test_json_of_the_right_type_is_read() -> None:
    data = {"count": 2, "rate": 1, "flag": True, "words": ["x"], "choice": "b", "maybe": None}
    assert from_plain(Odd, data) == Odd(2, 1.0, True, ("x",), "b", None)
    assert not math.isnan(from_plain(Odd, data).rate)
