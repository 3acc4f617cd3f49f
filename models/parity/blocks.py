"""What golden files of REM and Simulus have in common: entries of their configs, inputs as objects of ours, decisions.

Shapes: B segments or N rows, T steps, K tokens a frame.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from models.api import Batch
from models.parity.golden_file import GoldenFile, renamed
from models.parity.learning import Training, restored
from models.practice.actor_critic import Memory
from models.practice.block_agent import BlockAgent

# ---- what `meta/config` states ----

TOKENIZER_NAMES = {
    "encoder.in_channels": "frame_channels",
    "encoder.input_resolution": "resolution",
    "encoder.norm_num_groups": "norm_groups",
    "encoder.num_downsample_steps": "halvings",
    "encoder.out_channels": "z_channels",
    "encoder.out_channels_1st_layer": "channels",
    "vocab_size": "vocab_size",
}
TOKENIZER_FIXED = {"encoder.downsample_use_conv": True}
OPTIMISER_NAMES = {"learning_rate": "lr", "max_grad_norm": "clip", "weight_decay": "weight_decay"}
LEARNING_NAMES = {
    "entropy_weight": "entropy",
    "gamma": "gamma",
    "imagine_horizon": "horizon",
    "lambda_": "lambda_",
}
SECTIONS = ("tokenizer", "world_model", "actor_critic", "training")


def recording_fields(config: Mapping[str, Any], names: Mapping[str, str], ignored: tuple[str, ...]) -> dict[str, Any]:
    """What it states of the recording itself, beside its sections. LPIPS must be left out."""
    rest = {name: value for name, value in config.items() if name not in (*SECTIONS, *ignored, "num_actions")}
    return renamed(rest, names, {"lpips": False})


def training_of(config: Mapping[str, Any]) -> dict[str, Training]:
    """Numbers of the optimisers, by network."""
    stated = {
        network: {name: value for name, value in each.items() if name in OPTIMISER_NAMES}
        for network, each in config["training"].items()
    }
    return {network: Training(**renamed(each, OPTIMISER_NAMES, {})) for network, each in stated.items()}


def learning_fields(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """How the actor-critic imagines and learns."""
    stated = config["training"]["actor_critic"]
    return renamed({name: value for name, value in stated.items() if name not in OPTIMISER_NAMES}, names, {})


def tokenizer_fields(stated: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Of a `TokenizerConfig`, but for its stack; and what a family's files state besides, under these names.

    Raises ValueError where frames are no squares.
    """
    fields = renamed(stated, TOKENIZER_NAMES | dict(names), TOKENIZER_FIXED)
    halvings, (side, other) = fields.pop("halvings"), fields.pop("resolution")
    if side != other:
        raise ValueError(f"meta/config states frames of {side} x {other}: square ones are known here")
    return fields | {"resolution": side, "downsample": (2,) * halvings, "attention": False, "initial": "uniform"}


# ---- inputs ----

Config = TypeVar("Config")
Recording = TypeVar("Recording")
Agent = TypeVar("Agent", bound=BlockAgent)


@dataclass(frozen=True)
class BlockCase(Generic[Config, Recording, Agent]):
    """A file with its networks, in eval mode. No caller may change these."""

    golden: GoldenFile
    config: Config
    training: Mapping[str, Training]
    recording: Recording  # how the file was made
    agent: Agent

    def restore(self, name: str) -> nn.Module:
        """A network with the recorded weights, which training may have changed."""
        return restored(self.agent.original, name, self.agent.networks[name], self.golden)

    def batch(self, name: str) -> Batch:
        """A network's segments, with the tokens of their frames. Raises ValueError for actions that there are not."""
        actions = f"batch/{name}/actions"
        self.golden.classes(actions, tuple(self.golden.tensor(actions).shape), self.actions)
        return self.golden.segments(name, self.agent.tokenizer.encode_tokens)

    def tokens(self, name: str) -> Tensor:
        """Tokens (B, T, K) of a network's segments."""
        tokens_BTK = self.batch(name).tokens_BTK
        assert tokens_BTK is not None
        return tokens_BTK

    @property
    def actions(self) -> int:
        """How many there are."""
        return int(self.agent.config.actor_critic.num_actions)

    @property
    def rows(self) -> int:
        """N of what acts and imagines."""
        return len(self.golden.tensor("batch/actor_critic/actions"))

    def kept(self, entry: str, rows: int) -> int:
        """Rows that the file keeps of an output, of so many."""
        return len(self.golden.arrays[entry]) if entry in self.golden.arrays else rows


# ---- outputs ----


@torch.no_grad()
def act_outputs(case: BlockCase[Any, Any, Any], burn_in: int, stacked: Callable[[Memory], Tensor]) -> dict[str, Tensor]:
    """Entries `act/*`: burn-in on the first frames, then a decision at each of the others.

    stacked: the actor's memory as the file records it.
    """
    actor, tokens_NTK = case.agent.actor_critic, case.tokens("actor_critic")
    seen = [case.agent.see(tokens_NK) for tokens_NK in tokens_NTK.unbind(1)]
    mask_NT = case.golden.tensor("batch/actor_critic/mask_padding")
    memory = actor.burn_in(seen[:burn_in], mask_NT[:, :burn_in])
    found = {"act/state_after_burn_in": stacked(memory)}
    judged = []
    actions_NT = case.golden.classes("draws/act/actions", (case.rows, len(seen) - burn_in), case.actions)
    for seen_NX, actions_N in zip(seen[burn_in:], actions_NT.unbind(1), strict=True):
        judged.append(actor(seen_NX, memory))
        memory = actor.told(actions_N, judged[-1].memory)
    return found | {
        "act/state_last": stacked(memory),
        "act/logits": torch.stack([each.logits_NA for each in judged], dim=1),
        "act/values": torch.stack([each.values_N for each in judged], dim=1),
    }
