"""The inputs of a golden file of the Dreamer family as objects of ours: networks, segments and recorded draws.

Shapes: B segments or N rows, T steps, S variables of a sample, A numbers of an action.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.config import DreamerConfig
from models.dreamer.state_dict import Names, load_original, their_name
from models.dreamer.world_model import Segments, WorldModel
from models.parity.dreamer.config import Training, dreamer_config
from models.parity.golden_file import GoldenFile
from models.rssm.chance import Chance, OneHot

WEIGHTS = "weights/agent/"
SITES = {  # where something is drawn, by the name of its entries
    "posterior": "rssm_post",
    "prior": "rssm_prior",
    "first_posterior": "af_rssm_post",
    "first_prior": "af_rssm_prior",
    "latent_action": "latent_action",
    "encoded_action": "action_encoder",
}
CLASSES, NORMAL = "category", "normal"
UNIFORM, ORDER, STEPS = "action_uniform", "rank/permutation", "context_t"
IMAGINED = "imagine/"


class Recorded:
    """The draws of a stage, in order. `Draws` of `models.rssm.chance`; asked for more than there are, a ValueError.

    Draws that the original made and nothing depends on (priors of steps whose posterior is drawn) are read with the
    rest. imagined: those of the stage's rollout.
    """

    def __init__(self, golden: GoldenFile, stage: str, imagined: bool = False) -> None:
        self._stage = stage
        prefix = f"draws/{stage}/"
        found = golden.tensors(prefix)
        own = {
            name.removeprefix(IMAGINED): each for name, each in found.items() if name.startswith(IMAGINED) == imagined
        }
        self._left = {name: list(each) for name, each in own.items()}

    def _next(self, name: str) -> Tensor:
        left = self._left.get(name)
        if not left:
            raise ValueError(f"draws/{self._stage}/{name} are fewer than are asked for")
        return left.pop(0)

    def _fitting(self, name: str, shape: tuple[int, ...]) -> Tensor:
        found = self._next(name)
        if tuple(found.shape) != shape:
            raise ValueError(f"draws/{self._stage}/{name} are {tuple(found.shape)} each, and {shape} is asked for")
        return found

    def skip(self, what: str, count: int) -> None:
        """Pass draws on which nothing depends: priors of steps whose posterior was drawn. ValueError as above."""
        kinds = [kind for kind in (CLASSES, NORMAL) if self._left.get(f"{SITES[what]}/{kind}")]
        for _ in range(count):
            self._next(f"{SITES[what]}/{(kinds or [CLASSES])[0]}")

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """See `Draws`."""
        name = f"{SITES[what]}/{CLASSES}"
        found = self._fitting(name, tuple(logits.shape[:-1])).long()
        if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < logits.shape[-1]:
            raise ValueError(f"draws/{self._stage}/{name} holds classes beyond {logits.shape[-1]}")
        return found

    def normal(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        return self._fitting(f"{SITES[what]}/{NORMAL}", tuple(like.shape))

    def uniform(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        return self._fitting(UNIFORM, tuple(like.shape))

    def order(self, what: str, count: int) -> Tensor:
        """See `Draws`."""
        return self._fitting(ORDER, (count,)).long()

    def steps(self, what: str, rows: int, count: int) -> Tensor:
        """See `Draws`."""
        return self._fitting(STEPS, (rows,)).long()

    def some(self, what: str, rows: int, count: int, kept: int) -> Tensor:
        """See `Draws`."""
        return self._fitting(f"key_subset_n{count}_frames{rows}", (rows, kept)).long()


@dataclass(frozen=True)
class Case:
    """A file with its networks. Whoever changes these calls `restore`."""

    golden: GoldenFile
    config: DreamerConfig
    training: Training
    names: Names
    world: WorldModel
    behaviour: ActorCritic | None

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training = dreamer_config(golden.config)
        names: Names = "contextwm" if golden.config["repo"] == "ContextWM" else "prelar"
        behaviour = ActorCritic(config) if config.practises else None
        case = cls(golden, config, training, names, WorldModel(config), behaviour)
        case.restore()
        return case

    def restore(self) -> None:
        """The recorded weights, in eval mode."""
        weights = self.golden.tensors(WEIGHTS)
        load_original(self.world, self.behaviour, weights, self.names)
        self.world.eval()

    @property
    def segments(self) -> Segments:
        """All of the file's."""
        tensor = self.golden.tensor
        first_BT = tensor("batch/is_first").bool()
        frames = tensor("batch/image")
        if not self.config.practises:
            return Segments(frames, first_BT)
        if tensor("batch/is_last").shape != first_BT.shape:  # of episodes; what is learned goes by true ends alone
            raise ValueError(f"input batch/is_last must be {tuple(first_BT.shape)}, as is_first is")
        ends_BT = tensor("batch/is_terminal").bool()
        return Segments(frames, first_BT, tensor("batch/action"), tensor("batch/reward"), ends_BT)

    def draws(self, stage: str, imagined: bool = False) -> Recorded:
        """Those of a stage, from the first."""
        return Recorded(self.golden, stage, imagined)

    def theirs(self, name: str) -> str:
        """The file's name of a weight of ours; of one RSSM that is stored as the other, that."""
        found = their_name(name, self.names)
        return found if WEIGHTS + found in self.golden.arrays else found.replace("wm.rssm.", "wm.af_rssm.")

    def order(self, names: set[str]) -> list[str]:
        """Of the file's weights, these, in its order."""
        every = (name.removeprefix(WEIGHTS) for name in self.golden.arrays if name.startswith(WEIGHTS))
        return [name for name in every if name in names]


def state(kind: Chance, stats: Tensor, deter: Tensor, sample: Tensor | None = None) -> dict[str, Tensor]:
    """A state as it is recorded: where it has logits its sample is not, which its draw tells."""
    if isinstance(kind, OneHot):
        return {"deter": deter, "logit": stats}
    means, stds = stats.unbind(-2)
    return {"deter": deter, "mean": means, "std": stds} | ({} if sample is None else {"stoch": sample})


def pictures(prefix: str, frames: Tensor) -> dict[str, Tensor]:
    """Frames (B, T, C, R, R) as they are recorded: every fourth pixel, the first one whole, the sum of each."""
    frames = frames.detach()
    return {
        f"{prefix}/every4": frames[..., ::4, ::4],
        f"{prefix}/first": frames[0, 0],
        f"{prefix}/frame_sum": frames.double().sum((2, 3, 4)),
    }


def mean(numbers: Tensor) -> Tensor:
    """A scalar without gradient."""
    return numbers.detach().mean()


def spread(numbers: Tensor) -> Tensor:
    """The standard deviation of a sample."""
    return torch.std(numbers.detach())
