"""What golden files record of learning in the same way, whatever the family: labels, gradients, weights after a step.

Shapes: B segments, T steps, K tokens a frame.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.api import Batch, Losses
from models.parity.golden_file import GoldenFile
from models.practice.original_names import OriginalNames

WATCHED = 14  # parameters whose [sum, L2] a file records after a step: evenly among those whose gradient is not 0
VANISHING = "parameters_with_vanishing_gradient"  # the entry that lists those
IGNORED = -100  # the label of what is not learned from
# Terms of a world model's loss by their recorded names: ours, and what the original multiplies them with.
WORLD_TERMS = {"loss_obs": ("observations", 1.0), "loss_rewards": ("rewards", 1.0), "loss_ends": ("ends", 1.0)}

Names = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""tensors of parameters by our names -> by those under which a file records them"""


@dataclass(frozen=True)
class Training:
    """Numbers of an optimiser."""

    lr: float
    clip: float
    weight_decay: float


def restored(names: OriginalNames, name: str, network: nn.Module, golden: GoldenFile) -> nn.Module:
    """The network, in eval mode, with the weights that the file records under its name. ValueError where none fit."""
    names.load_original(name, network, golden.tensors(f"weights/{name}/"))
    return network.eval()


def loss_outputs(prefix: str, losses: Losses, terms: Mapping[str, tuple[str, float]]) -> Iterator[tuple[str, Tensor]]:
    """The total and its terms, by recorded name: ours, and what the original multiplies them with."""
    yield f"{prefix}/total", losses.total.detach()
    yield from ((f"{prefix}/{theirs}", factor * losses.terms[ours]) for theirs, (ours, factor) in terms.items())


def labels(batch: Batch, learned_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, T, K), classes of rewards (B, T) and ends (B, T), long; `IGNORED` where `learned` is False."""
    assert batch.tokens_BTK is not None
    tokens_BTK = batch.tokens_BTK.masked_fill(~learned_BT[..., None], IGNORED)
    rewards_BT, ends_BT = batch.rewards_BT.sign().long() + 1, batch.ends_BT.long()
    return tokens_BTK, rewards_BT.masked_fill(~learned_BT, IGNORED), ends_BT.masked_fill(~learned_BT, IGNORED)


def gradient_of(parameter: Tensor) -> Tensor:
    """Zeros where none arrives."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def gradients(prefix: str, parameters: Mapping[str, Tensor], names: Names = dict) -> Iterator[tuple[str, Tensor]]:
    """The norm of each parameter's gradient in float64."""
    found = names({key: gradient_of(each) for key, each in parameters.items()})
    yield from ((f"{prefix}/{key}", gradient.double().norm()) for key, gradient in found.items())


def sum_and_norm(weight: Tensor) -> Tensor:
    """(2,) float64: as weights after a step are recorded."""
    weight = weight.detach().double()
    return torch.stack([weight.sum(), weight.norm()])


def vanishing(golden: GoldenFile, stage: str) -> tuple[str, ...]:
    """The parameters whose true gradient in a stage is 0, as the file lists them: ours, and its own, are rounding.

    Such are biases of keys, and of convolutions before a norm with one channel a group.
    """
    own = f"meta/{VANISHING}"
    listed = golden.stated(own) if own in golden.arrays else golden.stated("meta/optimizer")[VANISHING]
    return tuple(listed.get(stage, ()))


def watched(names: list[str]) -> list[str]:
    """Of these parameters, in order, the ones whose weights are recorded."""
    count = min(WATCHED, len(names))
    return [names[round(place * (len(names) - 1) / max(count - 1, 1))] for place in range(count)]
