"""Loading of JOWA's released weights: names as wrappers changed them, and buffers that are no weights."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
NO_WEIGHTS = re.compile(r"^lpips\.|\.indices$|\.attn\.mask$")


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


def load_released(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a released checkpoint's state_dict; nothing is loaded unless everything fits.

    Raises ValueError that lists weights which are missing, unexpected or of another shape.
    """
    weights, own = released_weights(state_dict), model.state_dict()
    faults = {
        "missing": sorted(own.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if weights[name].shape != own[name].shape
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)
        raise ValueError(f"These weights are not this {type(model).__name__}'s, is the configuration right? {listed}")
    model.load_state_dict(weights)
