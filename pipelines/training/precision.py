"""Whether bf16 is right on this machine: some processors' kernels return noise for some shapes, without a word.

Every network that is about to run computes one small batch in bf16 and in float32, as it learns and as it plays (the
two may take different kernels). Where they disagree, the run goes on in float32 and says so; what was measured stands
in the manifest. Seen: torch 2.13 on processors with AMX, convolutions of fewer than 16 channels, relative error 1.1.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from models.api import Agent
from pipelines.errors import UsageError
from pipelines.progress import say
from pipelines.training.device import Device

LIMIT = 0.1  # relative; rounding to bf16 costs deep networks 0.01 to 0.03, noise 1 and more

_known: dict[str, dict[str, float]] = {}  # once a process, for each config and device


def settle(agent: Agent, device: Device, asked: str) -> Device:
    """The device in the precision in which this agent's networks are right on it, with what was measured.

    asked: the precision as the config has it. Raises UsageError where it is bf16 and bf16 is wrong.
    """
    if not device.bf16:
        return device
    found = errors(agent, device)
    wrong = {name: error for name, error in found.items() if not error <= LIMIT}
    if not wrong:
        return replace(device, errors=found)
    what = ", ".join(f"the {name} (relative error {error:.2f} against float32)" for name, error in wrong.items())
    if asked == "bf16":
        raise UsageError(f"This machine computes noise in bf16 for {what}: set precision to float32 or auto")
    say(f"This machine computes noise in bf16 for {what}: float32 is used")
    return replace(device, bf16=False, errors=found)


def errors(agent: Agent, device: Device) -> dict[str, float]:
    """By network, the relative error (L2) of bf16 against float32; the largest of what the network returns."""
    key = json.dumps([agent.config.family, agent.config.plain(), device.name], sort_keys=True)
    if key not in _known:
        with _in_eval(agent):
            _known[key] = compare(agent.probe, device)
    return _known[key]


def compare(probe: Callable[[], Mapping[str, tuple[Tensor, ...]]], device: Device) -> dict[str, float]:
    """As `errors`, of what `probe` returns."""
    found: dict[str, float] = {}
    for learning in (True, False):
        with torch.set_grad_enabled(learning):
            exact = probe()
            with replace(device, bf16=True).autocast():
                rounded = probe()
        for name, tensors in exact.items():
            pairs = zip(tensors, rounded[name], strict=True)
            worst = [found.get(name, 0.0), *(_relative(theirs, ours) for theirs, ours in pairs)]
            found[name] = float("inf") if any(error != error for error in worst) else max(worst)
    return found


def _relative(exact: Tensor, rounded: Tensor) -> float:
    exact, rounded = exact.detach().double(), rounded.detach().double()
    scale = float(exact.norm())
    return float((rounded - exact).norm()) / scale if scale else float((rounded != exact).any())


@contextmanager
def _in_eval(agent: Agent) -> Iterator[None]:
    before = {name: network.training for name, network in agent.networks.items()}
    for network in agent.networks.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in agent.networks.items():
            network.train(before[name])
