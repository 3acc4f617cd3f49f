"""Networks that a golden file trains one after another: losses, gradients and one step of an optimiser each.

Every stage begins with the recorded weights. Entries: `loss/<stage>/*`, `grad/<stage>/<parameter>` (norms),
`grad_rows/*`, `grad_none/*`, `grad_other/*`, `grad_total/*`, and `after_step/<stage>/<parameter>`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Losses
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.learning import Names, Training, gradient_of, gradients, loss_outputs, sum_and_norm

LEAST = 2e-5  # relative
# Adam's first step is the sign of a gradient, so that one near 0 moves a sum of weights by twice the learning rate.
STEPPED = 3e-4


def as_recorded(golden: GoldenFile, name: str) -> float | Tolerance:
    """The largest error of an entry, relative: ten times what the recording itself was off float64, as it lists it."""
    stated = 10 * float(golden.stated("meta/float64_deviation").get(name, 0.0))
    if not name.startswith("after_step/"):
        return max(LEAST, stated)
    scale = float(abs(golden.arrays[name]).max())
    return Tolerance(absolute=(scale * max(STEPPED, stated), scale * max(LEAST, stated)))  # of [sum, L2]


class Trained(Protocol):
    """What is asked of an agent."""

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...

    def optimiser(
        self, network: str, lr: float, weight_decay: float
    ) -> tuple[type[Optimizer], list[dict[str, Any]]]: ...


@dataclass(frozen=True)
class Stage:
    """A network that is trained: its loss, and the recorded names of its terms with what these are multiplied by.

    tables: parameters, by our names, whose gradients are recorded row by row too.
    """

    name: str
    loss: Callable[[], Losses]
    terms: Mapping[str, tuple[str, float]]
    tables: Sequence[str] = ()


def recorded(
    agent: Trained, stage: Stage, training: Training, names: Names = dict
) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The entries of a stage while it takes one step."""
    networks = agent.networks
    network = networks[stage.name]
    for each in networks.values():
        each.zero_grad(set_to_none=True)
    losses = stage.loss()
    losses.total.backward()
    yield from loss_outputs(f"loss/{stage.name}", losses, stage.terms)
    yield from _gradients(stage, network, names)
    for name, other in networks.items():
        if name != stage.name:
            count = sum(each.grad is not None for each in other.parameters())
            yield f"grad_other/{stage.name}/{name}", torch.tensor(count)
    kind, groups = agent.optimiser(stage.name, training.lr, training.weight_decay)
    optimiser = kind(groups)  # type: ignore[call-arg]
    before = nn.utils.clip_grad_norm_(network.parameters(), training.clip)
    yield f"grad_total/{stage.name}/before_clip", before
    yield (
        f"grad_total/{stage.name}/after_clip",
        nn.utils.get_total_norm([each.grad for each in network.parameters() if each.grad is not None]),
    )
    optimiser.step()
    for name, weight in names(dict(network.named_parameters())).items():
        yield f"after_step/{stage.name}/{name}", sum_and_norm(weight)


def _gradients(stage: Stage, network: nn.Module, names: Names) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The norm of each parameter's gradient; those of tables row by row too, and which have none."""
    parameters = dict(network.named_parameters())
    yield from gradients(f"grad/{stage.name}", parameters, names)
    for name in stage.tables:
        rows = gradient_of(parameters[name]).double().norm(dim=1)
        yield f"grad_rows/{stage.name}/{name.removesuffix('.weight')}", rows
    none = names({name: parameter for name, parameter in parameters.items() if parameter.grad is None})
    yield f"grad_none/{stage.name}", np.array(list(none), dtype=np.str_)
