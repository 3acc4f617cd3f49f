"""Families say on which numbers of their configs it depends what weights mean, where names and shapes do not tell.

Every number of a small config is changed; where the weights still fit and the networks then say something else, it
must be named in `AgentConfig.meaning`. By that list an agent is refused that would go on from weights of another kind.
"""

import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from models.api import Agent
from models.family import AgentConfig
from models.registry import family_of
from tests.models.delta_iris.small_delta import CONFIG as DELTA
from tests.models.iris.test_agent import CONFIG as IRIS
from tests.models.rem.small_rem import CONFIG as REM
from tests.models.simulus.small_simulus import VARIANTS as SIMULUS

CONFIGS = {"delta_iris": DELTA, "iris": IRIS, "rem": REM, "simulus": SIMULUS["retnet"]}


def others(value: Any, hint: Any) -> list[Any]:
    """Values that a field could have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value // 2]
    if isinstance(value, float):
        return [value / 2]
    if isinstance(value, str):
        return [each for each in typing.get_args(hint) if each != value]
    return [value[::-1]] if isinstance(value, tuple) and value[::-1] != value else []


def changed(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Configs in which one number is another, with its path; those that cannot be are left out."""
    hints = typing.get_type_hints(type(config))
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            inner: Iterator[tuple[str, Any]] = changed(value, f"{path}{entry.name}.")
        else:
            inner = iter([(f"{path}{entry.name}", each) for each in others(value, hints[entry.name])])
        for name, each in inner:
            try:
                yield name, replace(config, **{entry.name: each})
            except ValueError:
                continue


def built(config: AgentConfig) -> Agent | None:
    try:
        agent = family_of(config).build(config)
    except (ValueError, RuntimeError):
        return None
    for network in agent.networks.values():
        network.eval()
    return agent


def shapes(agent: Agent) -> dict[str, dict[str, torch.Size]]:
    return {
        name: {each: weight.shape for each, weight in network.state_dict().items()}
        for name, network in agent.networks.items()
    }


def says(agent: Agent) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [each for outputs in agent.probe().values() for each in outputs]


# The quickest family every time, the others with the long tests.
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name != "rem" else []) for name in CONFIGS]
)
def test_what_weights_mean_is_in_their_shapes_or_is_named(family: str) -> None:
    config = CONFIGS[family]
    agent = built(config)
    assert agent is not None
    said, fits, mean = says(agent), shapes(agent), set[str]()
    for name, each in changed(config):
        if name in mean or (other := built(each)) is None or shapes(other) != fits:
            continue
        for network, theirs in other.networks.items():
            theirs.load_state_dict(agent.networks[network].state_dict())
        found = says(other)
        if any(a.shape != b.shape or not torch.allclose(a, b, atol=1e-6) for a, b in zip(said, found, strict=True)):
            mean.add(name)
    named = {f"{part}.{name}" for part, names in config.meaning.items() for name in names}
    assert {".".join(name.split(".")[:2]) for name in mean} <= named
    assert "world_model.heads" in mean and any("norm_groups" in name for name in mean), (
        "the search finds what it should"
    )
