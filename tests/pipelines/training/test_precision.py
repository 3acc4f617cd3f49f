"""bf16 is used only where it computes what float32 does on this machine; the outcome is told and recorded."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from pipelines.errors import UsageError
from pipelines.recipes.registry import recipe
from pipelines.training import precision
from pipelines.training.device import Device
from tests.models.toy_family.agent import ToyAgent
from tests.models.toy_family.family import ToyConfig

BF16 = Device("cpu", True)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    precision._known.clear()
    yield
    precision._known.clear()


class Noisy(ToyAgent):
    """Its world model computes noise in bf16, as some processors do."""

    asked = 0

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        self.asked += 1
        assert not any(network.training for network in self.networks.values())
        found = super().probe()
        if torch.is_autocast_enabled("cpu"):
            found["world"] = (
                torch.randn(found["world"][0].shape, generator=torch.Generator().manual_seed(self.asked)),
            )
        return found


def test_networks_that_agree_run_in_bf16_and_say_how_well() -> None:
    agent = ToyAgent(ToyConfig())
    agent.networks["world"].train()
    device = precision.settle(agent, BF16, "auto")
    assert device.bf16 and set(device.errors) == {"world", "actor"} and max(device.errors.values()) < 0.05
    assert device.metrics()["device"] == "cpu, bf16" and set(device.metrics()["bf16_errors"]) == {"world", "actor"}
    assert agent.networks["world"].training, "modes are as they were"


def test_noise_is_told_and_float32_is_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(precision, "say", said.append)
    agent = Noisy(ToyConfig())
    device = precision.settle(agent, BF16, "auto")
    assert not device.bf16 and device.metrics()["device"] == "cpu, float32" and device.errors["world"] > 0.5
    assert len(said) == 1 and "noise in bf16 for the world (relative error" in said[0] and "float32 is used" in said[0]
    asked = agent.asked
    precision.settle(agent, BF16, "auto")
    assert agent.asked == asked, "once a process and config"


def test_noise_is_refused_where_bf16_was_asked_for() -> None:
    with pytest.raises(UsageError, match=r"noise in bf16 for the world .* set precision to float32 or auto"):
        precision.settle(Noisy(ToyConfig()), BF16, "bf16")


def test_float32_asks_nothing() -> None:
    agent = Noisy(ToyConfig())
    assert precision.settle(agent, Device("cpu", False), "auto") == Device("cpu", False) and not agent.asked


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_wrong(bad: float) -> None:
    def probe() -> Mapping[str, tuple[Tensor, ...]]:
        return {"one": (torch.tensor([bad if torch.is_autocast_enabled("cpu") else 1.0]),)}

    assert not precision.compare(probe, BF16)["one"] <= precision.LIMIT


def test_jowas_probe_runs_every_network_and_draws_from_no_stream() -> None:
    from models.registry import family_of

    networks = recipe("mini").pretrain.networks
    agent = family_of(networks).build(networks)
    before = torch.random.get_rng_state()
    found = precision.errors(agent, BF16)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(found) == set(agent.networks) and all(error >= 0 for error in found.values())
