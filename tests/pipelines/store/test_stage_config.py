"""Keys: equal for equal inputs in any field order, different for any change; which fields are config, which parents."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.store.ref import Ref
from pipelines.store.stage_config import KEY_HEX, Spec, StageConfig, canonical_json, manner, option, parent

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
configs = st.dictionaries(st.text(), values, max_size=6)


def key(config: dict[str, Any], stage: str = "tokens", code: str = "1", parents: tuple[Ref, ...] = ()) -> str:
    return Spec(stage, "Freeway", code, config, parents).key


@given(configs, st.randoms(use_true_random=False))
def test_field_order_does_not_matter(config: dict[str, Any], random: Any) -> None:
    shuffled = list(config.items())
    random.shuffle(shuffled)
    assert key(dict(shuffled)) == key(config)


@given(configs, st.text(), values, values)
def test_any_changed_value_changes_the_key(config: dict[str, Any], name: str, one: Any, other: Any) -> None:
    same = canonical_json(one) == canonical_json(other)
    assert (key({**config, name: one}) == key({**config, name: other})) is same


@given(configs, st.text(), values)
def test_a_new_field_changes_the_key(config: dict[str, Any], name: str, value: Any) -> None:
    without = {field: held for field, held in config.items() if field != name}
    assert key(without) != key({**without, name: value})


@given(configs)
def test_the_key_survives_being_written_and_read(config: dict[str, Any]) -> None:
    assert key(json.loads(json.dumps(config))) == key(config)


def test_number_like_keys_sort_as_text_both_times() -> None:
    config = {2: "b", 10: "a"}
    assert canonical_json(config) == canonical_json(json.loads(json.dumps(config))) == '{"10":"a","2":"b"}'


def test_kinds_that_python_calls_equal_have_different_keys() -> None:
    assert len({key({"x": value}) for value in (1, 1.0, True, "1", [1])}) == 5


def test_stage_code_version_parents_and_their_order_count_but_not_the_subject() -> None:
    one, two = Ref("replay", "Pong/1", "a" * 16), Ref("replay", "Pong/2", "b" * 16)
    keys = [
        key({}),
        key({}, stage="scores"),
        key({}, code="2"),
        key({}, parents=(one,)),
        key({}, parents=(one, two)),
        key({}, parents=(two, one)),
    ]
    assert len(set(keys)) == len(keys)
    assert Spec("tokens", "Freeway", "1", {}).key == Spec("tokens", "Pong", "1", {}).key


def test_a_key_made_today_is_the_key_of_tomorrow() -> None:
    spec = Spec("tokens", "Freeway", "1", {"length": 8, "rate": 0.5, "games": ["Pong"]}, (Ref("a", "b", "c"),))
    text = '["tokens","1",{"games":["Pong"],"length":8,"rate":0.5},["a/b/c"]]'
    assert canonical_json([spec.stage, spec.code_version, spec.config, [str(ref) for ref in spec.parents]]) == text
    assert spec.key == "7d275f7adcdda47d"
    assert len(spec.key) == KEY_HEX


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_json_does_not_know_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="config of tokens cannot be hashed"):
        key({"rate": value})


# ---- which fields of a config make an artefact another one ----


@dataclass(frozen=True)
class Inner:
    steps: int = 3
    late: bool = option(False)


@dataclass(frozen=True)
class Config(StageConfig):
    STAGE: ClassVar[str] = "test"
    VERB: ClassVar[str] = "try"
    CODE: ClassVar[str] = "1"

    game: str
    one: Ref | None = None
    many: tuple[Ref, ...] = ()
    inner: tuple[Inner, ...] = (Inner(),)
    late: int = option(0)
    workers: int = manner(2)
    agent: Ref | None = parent(makes="agent", part="tokenizer")

    @property
    def subject(self) -> str:
        return self.game


def test_an_option_counts_once_it_is_used() -> None:
    plain = Config("Pong").spec()
    assert plain.config["inner"] == [{"steps": 3}] and "late" not in plain.config
    assert Config("Pong", late=1).spec().config["late"] == 1
    assert Config("Pong", late=1).spec().key != plain.key
    assert Config("Pong", inner=(Inner(late=True),)).spec().key != plain.key


def test_a_manner_never_counts() -> None:
    assert Config("Pong", workers=16).spec() == Config("Pong").spec()


def test_parents_are_not_config() -> None:
    ref = Ref("other", "Pong", "0" * 16)
    spec = Config("Pong", one=ref, many=(ref,)).spec()
    assert spec.parents == (ref, ref) and not {"one", "many"} & set(spec.config)


def test_a_part_is_named_beside_its_parent_and_never_in_the_key() -> None:
    ref, agent = Ref("other", "Pong", "0" * 16), Ref("pretrained", "x", "1" * 16)
    spec = Config("Pong", one=ref, agent=agent).spec()
    assert (spec.parents, spec.parts) == ((ref, agent), ("", "tokenizer"))
    assert spec.key == replace(spec, parts=()).key
    assert Config("Pong", one=ref).spec().parts == ()
    with pytest.raises(ValueError, match="1 parts for 2 parents"):
        replace(spec, parts=("tokenizer",))
