"""Limits stand beside the fields, and every fault is worded with its value, its rule and a repair."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.limits import Count, Natural, Positive, Seed, Share, Size, Within, broken, check, require_unset


@dataclass(frozen=True)
class Config:
    layers: Count = 4
    width: Size = 8
    seed: Seed = 0
    steps: Natural = 0
    rate: Positive = 0.1
    share: Share = 0.5
    leaf: Literal["max", "mean"] = "max"
    widths: tuple[Count, ...] = ()
    simulations: Count | None = None
    kinds: tuple[Literal["", "cql"], ...] = ()
    odd: Annotated[float, Within(above=1, most=2)] = 2.0
    name: str = "anything"


def test_a_config_within_its_limits_has_no_fault() -> None:
    assert broken(Config()) == ""
    check(Config(widths=(1, 2), simulations=1, kinds=("", "cql"), share=1, rate=3, odd=1.5))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(layers=0), "model.layers 0 is impossible: it must be at least 1"),
        (Config(rate=0.0), "model.rate 0.0 is impossible: it must be above 0"),
        (Config(rate=float("nan")), "model.rate nan is impossible"),
        (Config(rate=float("inf")), "model.rate inf is impossible"),
        (Config(share=1.5), "model.share 1.5 is impossible: it must be from 0 to 1"),
        (Config(odd=1.0), "model.odd 1.0 is impossible: it must be above 1 and at most 2"),
        (Config(leaf="maxx"), "model.leaf 'maxx' is unknown: did you mean 'max'? choose from max, mean"),
        (Config(widths=(2, 0)), "model.widths 2,0 is impossible: it must be at least 1"),
        (Config(simulations=0), "model.simulations 0 is impossible"),
        (Config(kinds=("combo",)), "model.kinds 'combo' is unknown: choose from '' (none), cql"),
        (Config(layers=2**53 + 1), "model.layers 9007199254740993 is impossible: it must be at most 9007199254740992"),
        (Config(width=70_000), "model.width 70000 is impossible: it must be at most 65536"),
        (Config(seed=10**19), "model.seed 10000000000000000000 is impossible: it must be at most 8796093022207"),
        (Config(layers=0, seed=-1), "at least 1; model.seed -1 is impossible: it must be at least 0"),
    ],
)
def test_every_fault_names_field_value_and_rule(config: Config, words: str) -> None:
    assert words in broken(config, "model")
    with pytest.raises(ValueError, match=r"is impossible|is unknown"):
        check(config, "model")


def test_what_nothing_reads_is_at_its_default_or_named_with_a_repair() -> None:
    require_unset(Config(layers=5), "model", "width widths leaf", "without x: set model.x")
    with pytest.raises(
        ValueError, match=r"^model\.widths 2,1 has no effect without x: set model\.x, or leave it empty$"
    ):
        require_unset(Config(widths=(2, 1)), "model", "width widths leaf", "without x: set model.x")


@given(st.floats(allow_nan=True), st.floats(-2, 2), st.floats(-2, 2))
def test_a_range_holds_what_lies_between_its_ends(value: float, low: float, high: float) -> None:
    assert Within(least=low, most=high).allows(value) == (low <= value <= high)
    assert Within(above=low, below=high).allows(value) == (low < value < high)
    assert not Within().allows(float("nan"))


def test_a_time_in_milliseconds_is_a_seed_and_all_draws_of_the_last_seed_fit() -> None:
    last = 2**43 - 1
    assert broken(Config(seed=1_764_172_415_123)) == broken(Config(seed=last)) == ""
    assert "seed" in broken(Config(seed=last + 1))
    assert last * 1_000_003 + 10**9 < 2**63  # the seed of a step of a training, in torch
    assert last << 16 < 2**63  # of a row of environments
