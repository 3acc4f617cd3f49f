"""Which weights learn together: the optimisers of the Dreamer family, each with a clipping of its own.

Adam whose decay is added to gradients, as in the originals. What was trained on videos may wait: its rate is 0 for the
first updates, while everything else learns to read it. Source: the code of APV and PreLAR.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Adam

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.config import ADAM_EPS, DreamerConfig
from models.dreamer.world_model import WorldModel
from models.rssm.context import ContextDecoder

SPLIT = "encoder"  # encoder and the RSSM of videos, where they learn apart
WORLD, ACTOR, CRITIC = "world_model", "actor", "critic"

Parameters = dict[str, nn.Parameter]


def world_parts(world: WorldModel) -> dict[str, Parameters]:
    """Parameters of a world by optimiser, and by name as in the world."""
    config = world.config
    skipped = set[int]()
    if config.faults.late_positions and isinstance(world.decoder, ContextDecoder):
        skipped = {id(each) for each in world.decoder.positions}
    everything = {name: each for name, each in world.named_parameters() if id(each) not in skipped}
    if not config.split:
        return {WORLD: everything}
    carried = ("encoder.", "first." if config.stacked else "rssm.")
    return {
        SPLIT: {name: each for name, each in everything.items() if name.startswith(carried)},
        WORLD: {name: each for name, each in everything.items() if not name.startswith(carried)},
    }


def behaviour_parts(networks: ActorCritic) -> dict[str, Parameters]:
    """Parameters of actor and critic by optimiser, and by name as in both."""
    found = dict(networks.named_parameters())
    return {
        part: {name: each for name, each in found.items() if name.startswith(f"{part}.")} for part in (ACTOR, CRITIC)
    }


def adam(parameters: Parameters, lr: float, weight_decay: float) -> Adam:
    """Adam with decay in its gradients."""
    return Adam(parameters.values(), lr=lr, eps=ADAM_EPS, weight_decay=weight_decay)


def rate(config: DreamerConfig, part: str, lr: float, update: int) -> float:
    """The learning rate of an update, counted from 0 over the whole run."""
    return 0.0 if part == SPLIT and update < config.delay else lr


class Optimisers:
    """Steps of several Adams after one backward pass, each clipped by the norm of its own gradients.

    A small loop for tests and comparisons; a training brings its own.
    """

    def __init__(
        self,
        config: DreamerConfig,
        parts: Mapping[str, Parameters],
        lr: Mapping[str, float],
        clip: Mapping[str, float],
        weight_decay: Mapping[str, float],
    ) -> None:
        self.config, self.parts, self.lr, self.clip = config, parts, lr, clip
        self.adams = {name: adam(parts[name], lr[name], weight_decay[name]) for name in parts}
        self.updates = 0
        self.gradients = dict[str, Tensor]()  # norms of the newest, of each weight, before clipping

    def step(self, loss: Tensor) -> dict[str, Tensor]:
        """One update; returns the norm of each part's gradient before clipping."""
        self.backward(loss)
        return self.move()

    def backward(self, loss: Tensor) -> None:
        """Fresh gradients."""
        for parameters in self.parts.values():
            for each in parameters.values():
                each.grad = None
        loss.backward()
        found = (pair for parameters in self.parts.values() for pair in parameters.items())
        self.gradients = {name: each.grad.double().norm() for name, each in found if each.grad is not None}

    def rate(self, part: str) -> float:
        """The learning rate of a part's next update."""
        return rate(self.config, part, self.lr[part], self.updates)

    def move(self) -> dict[str, Tensor]:
        """See `step`."""
        norms = {}
        for name, optimiser in self.adams.items():
            norms[name] = nn.utils.clip_grad_norm_(list(self.parts[name].values()), self.clip[name])
            for group in optimiser.param_groups:
                group["lr"] = self.rate(name)
            optimiser.step()
        self.updates += 1
        return norms


def frozen(*modules: nn.Module) -> "Frozen":
    """A context in which these modules' weights take no gradient; numbers pass it on."""
    return Frozen(modules)


class Frozen:
    """See `frozen`."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        self._parameters = [each for module in modules for each in module.parameters() if each.requires_grad]

    def __enter__(self) -> None:
        for each in self._parameters:
            each.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for each in self._parameters:
            each.requires_grad_(True)
