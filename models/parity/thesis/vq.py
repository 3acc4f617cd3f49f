"""The tokenizer with a critic, each term of its loss alone, and what lies around it: returns, noise, the dummy world.

Shapes: n frames, N games, S steps, K tokens a frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.api import Losses
from models.blocks.weights import load_exactly
from models.iris.emulator import EmulatorPlayer
from models.losses.returns import discounted_returns
from models.parity.golden_file import GoldenFile
from models.parity.iris.worlds import as_bytes
from models.parity.learning import gradients, sum_and_norm, vanishing, watched
from models.parity.thesis.config import tokenizer_config
from models.practice.draws import likeliest
from models.spaces import noisy_frames
from models.tokenizers.config import TokenizerWeights
from models.tokenizers.loss import tokenizer_loss
from models.tokenizers.vq import Tokenizer

CRITIC = "critic."
# Terms by their recorded names, and ours. Those before the last do not depend on the critic's weight.
TERMS = {"reconstruction_loss": "l1", "commitment_loss": "commitment", "value_loss": "value"}
NOTHING = TokenizerWeights(l1=0.0, commitment=0.0, lpips=0.0)
SEGMENTS = {"segment_right_padded": 5, "segment_left_padded": -2}  # of a merged episode: the step where they begin


def tokenizer_alone_outputs(golden: GoldenFile) -> dict[str, Tensor]:
    """Every output of a file without a world model. Raises ValueError or KeyError where an input is damaged."""
    weights = golden.config["critic_weights"]
    learners = [Learner.of(golden, weight) for weight in weights]
    found: dict[str, Tensor] = {}
    for learner in learners:
        found |= dict(learner.outputs())
    first, with_critic = learners[0], [one for one in learners if one.weight]
    for recorded, ours in TERMS.items():
        for learner in with_critic[:1] if ours == "value" else (first,):
            found |= dict(learner.term_gradients(recorded, ours))
    tokenizer = first.fresh()
    found |= dict(plain_outputs(golden, tokenizer)) | dict(dummy_outputs(golden, tokenizer))
    return found | dict(returns_outputs(golden)) | dict(noise_outputs(golden))


@dataclass(frozen=True)
class Learner:
    """The tokenizer with a critic whose loss has this weight; with weight 0 there is none."""

    golden: GoldenFile
    weight: float
    frames_nCHW: Tensor
    returns_n: Tensor

    @classmethod
    def of(cls, golden: GoldenFile, weight: float) -> "Learner":
        frames_nCHW = golden.tensor("batch/tokenizer/observations").flatten(0, 1).float() / 255
        return cls(golden, weight, frames_nCHW, golden.tensor("batch/tokenizer/returns").flatten())

    @property
    def stage(self) -> str:
        """By which entries name it."""
        return f"critic_weight_{self.weight}"

    def fresh(self) -> Tokenizer:
        """The tokenizer with the recorded weights."""
        config, _ = tokenizer_config(self.golden.config["tokenizer"])
        weights = self.golden.tensors("weights/tokenizer/")
        if not self.weight:
            config = replace(config, value_layers=())
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(CRITIC)}
        tokenizer = Tokenizer(config).eval()
        load_exactly(tokenizer, weights)
        return tokenizer

    def loss(self, tokenizer: Tokenizer, weights: TokenizerWeights) -> Losses:
        return tokenizer_loss(self.frames_nCHW, tokenizer(self.frames_nCHW), weights, returns_n=self.returns_n)

    def outputs(self) -> Iterator[tuple[str, Tensor]]:
        """Values, losses, gradients, and two steps of Adam on one batch."""
        tokenizer, training = self.fresh(), self.golden.config["training"]
        parameters = dict(tokenizer.named_parameters())
        optimiser = torch.optim.Adam(parameters.values(), lr=training["learning_rate"])
        values_n = tokenizer(self.frames_nCHW).values
        values_n = torch.zeros(len(self.frames_nCHW)) if values_n is None else values_n
        yield f"tokenizer/value/{self.stage}", values_n[:, None]
        for step, suffix in enumerate(("", "_step2")):
            losses = self.loss(tokenizer, TokenizerWeights(lpips=0.0, value=self.weight))
            tokenizer.zero_grad(set_to_none=True)
            losses.total.backward()
            if step == 0:
                yield f"loss/{self.stage}/total", losses.total.detach()
                for recorded, ours in TERMS.items():
                    factor = self.weight if ours == "value" else 1.0
                    yield f"loss/{self.stage}/{recorded}", factor * losses.terms.get(ours, torch.zeros(()))
                yield from gradients(f"grad/{self.stage}/total", parameters)
            norm = nn.utils.clip_grad_norm_(tokenizer.parameters(), training["max_grad_norm"])
            yield f"grad_norm/{self.stage}{suffix}", norm
            optimiser.step()
            names = [name for name in parameters if name not in vanishing(self.golden, self.stage)]
            for name in watched(names):
                yield f"after_step{'2' if step else ''}/{self.stage}/{name}", sum_and_norm(parameters[name])

    def term_gradients(self, recorded: str, ours: str) -> Iterator[tuple[str, Tensor]]:
        """The gradient of one term, where it reaches a parameter."""
        tokenizer = self.fresh()
        weights = replace(NOTHING, **{ours: self.weight if ours == "value" else 1.0})
        self.loss(tokenizer, weights).total.backward()
        reached = {name: each for name, each in tokenizer.named_parameters() if each.grad is not None}
        return gradients(f"grad/{self.stage}/{recorded}", reached)


@torch.no_grad()
def plain_outputs(golden: GoldenFile, tokenizer: Tokenizer) -> Iterator[tuple[str, Tensor]]:
    """Entries `tokenizer/*` that no critic changes."""
    found = tokenizer(golden.tensor("batch/tokenizer/observations").flatten(0, 1).float() / 255)
    kept = len(golden.arrays["tokenizer/reconstruction"]) if "tokenizer/reconstruction" in golden.arrays else 2
    yield "tokenizer/z", found.encoded.z
    yield "tokenizer/tokens", found.encoded.tokens_BK
    yield "tokenizer/reconstruction", 2 * found.frames[:kept] - 1


def returns_outputs(golden: GoldenFile) -> Iterator[tuple[str, Tensor]]:
    """Entries `returns/*`: of an open episode, of its end, of both as one, and of segments that reach beyond."""
    open_T, ended_T = (golden.tensor(f"batch/returns/{name}/rewards") for name in ("open", "ended"))
    ends_T = golden.tensor("batch/returns/ended/ends")
    golden.tensor("batch/returns/open/ends")  # which has none
    ended_T = ended_T[: int(ends_T.argmax()) + 1]
    episodes = {"open": open_T, "ended": ended_T, "merged": torch.cat([open_T, ended_T])}
    for gamma in golden.config["returns_gammas"]:
        prefix = f"returns/gamma_{gamma}"
        returns = {name: discounted_returns(rewards_T, gamma) for name, rewards_T in episodes.items()}
        yield from ((f"{prefix}/{name}", found_T) for name, found_T in returns.items())
        merged_T = returns["merged"]
        yield f"{prefix}/merged_length", torch.tensor(len(merged_T))
        for name, first in SEGMENTS.items():
            length = len(golden.arrays[f"{prefix}/{name}"]) if f"{prefix}/{name}" in golden.arrays else 0
            steps = range(first, first + length)
            inside = [float(merged_T[step]) if 0 <= step < len(merged_T) else 0.0 for step in steps]
            yield f"{prefix}/{name}", torch.tensor(inside)


def noise_outputs(golden: GoldenFile) -> Iterator[tuple[str, Tensor]]:
    """Entries `noise/*`: the original's policy sees fractions, and what it stores is cut off."""
    frames = golden.tensor("batch/noise/observations").numpy()
    for std in filter(None, golden.config["noise_stds"]):
        normal = golden.arrays[f"draws/noise/std_{std}"]
        golden.tensor(f"draws/noise/std_{std}")
        seen = noisy_frames(frames, normal, std)
        yield f"noise/std_{std}/observations", torch.from_numpy(seen)
        yield f"noise/std_{std}/stored_bytes", torch.from_numpy(seen.astype(np.uint8))


class Scripted:
    """Games that show recorded frames (N, S + 1, H, W, C), whatever is played."""

    def __init__(self, golden: GoldenFile) -> None:
        names = ("frames", "rewards", "ends")
        self._frames, self._rewards, self._ends = (golden.tensor(f"batch/dummy/{name}").numpy() for name in names)

    def reset(self) -> NDArray[np.uint8]:
        self._played = 0
        return self._frames[:, 0]

    def step(self, actions_N: NDArray[np.int64]) -> SimpleNamespace:
        self._played += 1
        of_step = {"rewards": self._rewards, "terminated": self._ends}
        gave = {name: each[:, self._played - 1] for name, each in of_step.items()}
        return SimpleNamespace(frames=self._frames[:, self._played], truncated=np.zeros(len(self._ends), bool), **gave)


@torch.no_grad()
def dummy_outputs(golden: GoldenFile, tokenizer: Tokenizer) -> Iterator[tuple[str, Tensor]]:
    """Entries `dummy/*`. The original's first frame is one that it is given, and not what its games show."""
    player = EmulatorPlayer(Scripted(golden), tokenizer.encode_tokens)
    tokens_NK = tokenizer.encode_tokens(golden.tensor("batch/dummy/start_frames").permute(0, 3, 1, 2))
    yield "dummy/first_tokens", tokens_NK
    yield "dummy/first_frame_uint8", as_bytes(tokenizer.decode_tokens(tokens_NK))
    actions_NS = golden.tensor("batch/dummy/actions")
    steps = [player.step(actions_N, likeliest) for actions_N in actions_NS.unbind(1)]
    tokens_NSK = torch.stack([step.tokens_NK for step in steps if step.tokens_NK is not None], dim=1)
    yield "dummy/tokens", tokens_NSK
    yield "dummy/rewards", torch.stack([step.rewards_N for step in steps], dim=1)
    yield "dummy/ends", torch.stack([step.ends_N for step in steps], dim=1)
    yield "dummy/frame_means", tokenizer.decode_tokens(tokens_NSK).mean((2, 3, 4))
