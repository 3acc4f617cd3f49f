"""The demo's experiments: one, or one beside another recipe's, for as many seeds as are asked for."""

import re
from pathlib import Path

import pytest

from pipelines.commands.graph import demo


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))


def keys(*arguments: str) -> list[str]:
    """Names of the experiments, in the order in which they are made."""
    found = [re.sub(r"^--beside=", "", each) for each in arguments]
    return [re.sub(r"-[0-9a-f]{8}$", "", each) for each in found if re.search(r"-[0-9a-f]{8}$", each)]


def test_a_recipe_without_a_rival_is_one_experiment() -> None:
    assert keys(*demo(name="mine", recipe="mini").arguments) == ["mine"]


def test_videos_are_shown_beside_the_same_agent_without_them_for_every_seed() -> None:
    made = demo(name="drawer", recipe="prelar_mini", seeds=2).arguments
    one = ["drawer", "drawer-prelar_mini_scratch"]
    assert keys(*made) == [*one, *(f"{name}-seed1" for name in one)] and "--summary" in made
