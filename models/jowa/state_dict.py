"""State dicts under the names of the original's checkpoints, there and back, of JOWA and of its tokenizer.

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
    """Load the state_dict of an original's checkpoint; nothing is loaded unless everything fits, bit for bit.

    Raises ValueError that lists weights which are missing, unexpected or of another shape, and for one whose numbers
    the model would round.
    """
    weights = released_weights(state_dict)
    if isinstance(model, Jowa) and model.task_emb is None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(TASKS)}
    if faults := misfit(model, weights):
        raise ValueError(f"These weights are not this {type(model).__name__}'s, is the configuration right? {faults}")
    for name, own in model.state_dict().items():
        _require_exact(name, weights[name], own.dtype)
    model.load_state_dict(weights)


def _require_exact(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError unless numbers of `tensor` become numbers of `dtype` and come back the same."""
    if tensor.dtype == dtype or (dtype == torch.float32 and tensor.dtype in (torch.float16, torch.bfloat16)):
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


def other_sizes(model: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    """What the weights look like where they are of the same kind but of another size, in words; else nothing."""
    kind, sizes = ("JOWA", jowa_sizes) if isinstance(model, Jowa) else ("tokenizer", tokenizer_sizes)
    try:
        theirs = sizes({name: tuple(tensor.shape) for name, tensor in released_weights(state_dict).items()})
    except ValueError:
        return ""
    pairs = [(name, found, getattr(model.config, name)) for name, found in theirs.items()]
    differ = [f"{name} {found} where {ours} is asked for" for name, found, ours in pairs if found != ours]
    return f"another {kind}: {', '.join(differ)}" if differ else ""


def jowa_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """What names and shapes of weights tell about a JOWA, by property of `JowaConfig`.

    Names are those of `released_weights`. Raises ValueError naming a weight that every JOWA has and these lack.
    """
    try:
        vocab_size, width = shapes["embedder.embedding_tables.1.weight"]
        num_actions = shapes["embedder.embedding_tables.0.weight"][0]
        num_q, q_hidden, _ = shapes["head_q.head_module.params.0"]
        return {
            "layers": _branches(shapes, "transformer.blocks."),
            "width": width,
            "num_q": num_q,
            "q_hidden": q_hidden,
            "vocab_size": vocab_size,
            "max_tokens": shapes["pos_emb.weight"][0],
            "task_embedding": f"{TASKS}embedding_tables.0.weight" in shapes,
            "critic": "c51" if shapes["head_q.head_module.params.9"][1] > num_actions else "mse",
        }
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"These are not a JOWA's weights, missing or of another shape: {error}") from error


def tokenizer_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """As `jowa_sizes`, about a tokenizer, by property of `TokenizerConfig`."""
    try:
        vocab_size, embed_dim = shapes["embedding.weight"]
        channels = shapes["encoder.conv_in.weight"][0]
        levels = range(_branches(shapes, "encoder.down."))
        factors = tuple(shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] // channels for level in levels)
        return {
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "z_channels": shapes["encoder.conv_out.weight"][0],
            "channels": channels,
            "channel_mult": () if set(factors) == {1} else factors,
            # A downsample's kernel is one wider than its stride.
            "downsample": tuple(shapes[f"encoder.down.{level}.downsample.conv.weight"][2] - 1 for level in levels[:-1]),
            "quantizer": "ema" if "embedding.cluster_size" in shapes else "straight_through",
        }
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"These are not a tokenizer's weights, missing or of another shape: {error}") from error


def _branches(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many different numbers follow the prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
