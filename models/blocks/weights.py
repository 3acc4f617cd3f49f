"""Weights of the originals' checkpoints, under the names that our modules share with them, strictly: all or nothing.

What may differ is what wrappers put before the names (`module.`, `_orig_mod.`), buffers that are no weights, and a
perceptual loss that is kept with a tokenizer. What a model of ours counts or remembers beside its weights may lack,
and then stays as it is.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
NO_WEIGHTS = re.compile(r"^lpips\.|\.indices$|\.attn\.mask$|\.retention\.thetas$")
REMEMBERED = re.compile(r"(?:^|\.)return_scale\.")  # of returns: never among the weights that are written
MAY_LACK = re.compile(rf"{REMEMBERED.pattern}|^embedding\.step$")
MOST_LISTED = 12


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


def network_part(network: str, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A network's part of a whole checkpoint; all of what holds no other."""
    prefix = f"{network}."
    part = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    return part or state_dict


def misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What keeps `weights`, named as by `released_weights`, from being the model's; empty where they fit."""
    own = model.state_dict()
    faults = {
        "missing": sorted(name for name in own.keys() - weights.keys() if not MAY_LACK.search(name)),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if weights[name].shape != own[name].shape
        ],
    }
    return "; ".join(f"{fault}: {_listed(names)}" for fault, names in faults.items() if names)


def _listed(names: list[str]) -> str:
    """A file of something else lacks hundreds: the first ones tell which it is."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load `weights`, named as by `released_weights`; nothing is loaded unless everything fits, bit for bit.

    Raises ValueError that lists weights which are missing, unexpected or of another shape, and for one whose numbers
    the model would round.
    """
    if faults := misfit(model, weights):
        raise ValueError(f"These weights are not this {type(model).__name__}'s, is the configuration right? {faults}")
    state = model.state_dict()
    for name, tensor in weights.items():
        _require_exact(name, tensor, state[name].dtype)
    model.load_state_dict({**state, **weights})


def _require_exact(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError unless numbers of `tensor` become numbers of `dtype` and come back the same."""
    widened = (torch.float16, torch.bfloat16, *((torch.float32,) if dtype == torch.float64 else ()))
    if tensor.dtype == dtype or (dtype in (torch.float32, torch.float64) and tensor.dtype in widened):
        return
    theirs, ours = (str(each).removeprefix("torch.") for each in (tensor.dtype, dtype))
    if (tensor.dtype, dtype) != (torch.float64, torch.float32):
        raise ValueError(
            f"weight '{name}' is {theirs}, the model's is {ours}: save it as {ours}"
            f"{' (float16 and bfloat16 are kept exactly too)' if dtype == torch.float32 else ''}"
        )
    if not torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
        raise ValueError(
            f"weight '{name}' is float64 with numbers that float32 would round: round them yourself with .float() and "
            "save it again"
        )


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights on the CPU, without what the model remembers beside them."""
    kept = {name: tensor for name, tensor in model.state_dict().items() if not REMEMBERED.search(name)}
    return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}
