"""Weights under the names of the original's checkpoints, there and back. Works for JOWA and for its tokenizer.

Our modules use the same names; what differs is what wrappers put before them (`module.`, `_orig_mod.`), buffers that
are no weights, a perceptual loss kept with the tokenizer, and tables of task embeddings that are there but not used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.jowa.model import Jowa

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
NO_WEIGHTS = re.compile(r"^lpips\.|\.indices$|\.attn\.mask$")
TASKS = "task_emb."
MOST_LISTED = 12


@dataclass(frozen=True)
class Misfit:
    """Names that keep a state_dict from being a model's: all empty where it fits."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    of_another_shape: tuple[str, ...]  # "name (theirs) for (ours)"

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.of_another_shape)

    def __str__(self) -> str:
        faults = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.of_another_shape,
        }
        return "; ".join(f"{fault}: {_listed(names)}" for fault, names in faults.items() if names)


def _listed(names: tuple[str, ...]) -> str:
    """A file of something else lacks hundreds: the first ones tell which it is."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def released_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names that our modules use: wrappers' prefixes and known buffers dropped.

    Raises ValueError where two names become one.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        plain = WRAPPERS.sub("", name)
        if NO_WEIGHTS.search(plain):
            continue
        if plain in weights:
            raise ValueError(f"Weight '{plain}' is in the file twice, once as '{name}': keep one of them")
        weights[plain] = tensor
    return weights


def misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> Misfit:
    """What keeps `weights`, named as by `released_weights`, from being the model's."""
    own = model.state_dict()
    return Misfit(
        missing=tuple(sorted(own.keys() - weights.keys())),
        unexpected=tuple(sorted(weights.keys() - own.keys())),
        of_another_shape=tuple(
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if weights[name].shape != own[name].shape
        ),
    )


def load_released(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load the state_dict of an original's checkpoint; nothing is loaded unless everything fits.

    Raises ValueError that lists weights which are missing, unexpected or of another shape.
    """
    weights = released_weights(state_dict)
    if isinstance(model, Jowa) and model.task_emb is None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(TASKS)}
    if faults := misfit(model, weights):
        raise ValueError(f"These weights are not this {type(model).__name__}'s, is the configuration right? {faults}")
    model.load_state_dict(weights)


def original_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights as the original's own loader wants them: with the buffers that it looks up by name.

    `load_released` reads it back exactly. Tables of task embeddings that a JOWA does without are zeros.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    if not isinstance(model, Jowa):
        return weights
    config, per_step = model.config, model.config.tokens_per_step
    if model.task_emb is None:
        for table in (0, 1):
            weights[f"{TASKS}embedding_tables.{table}.weight"] = torch.zeros(config.num_games, config.width)
    places = torch.arange(config.max_tokens)
    place_in_step = places % per_step
    at = {
        "observations": place_in_step != per_step - 2,
        "rewards": place_in_step == per_step - 1,
        "ends": place_in_step == per_step - 1,
        "q": place_in_step == per_step - 2,
        "q_target": place_in_step == per_step - 2,
    }
    return weights | {f"head_{head}.indices": places[chosen] for head, chosen in at.items()}
