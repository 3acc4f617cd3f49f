"""State dicts under the names of the original's checkpoints, there and back, of JOWA and of its tokenizer.

Our modules use the same names; what differs is what `blocks.weights` drops, and tables of task embeddings that are
there but not used.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.blocks.weights import copied_weights, load_exactly, released_weights
from models.jowa.model import Jowa

TASKS = "task_emb."


def load_released(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load the state_dict of an original's checkpoint, all of it or, with a ValueError, nothing: see `load_exactly`."""
    weights = released_weights(state_dict)
    if isinstance(model, Jowa) and model.task_emb is None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(TASKS)}
    load_exactly(model, weights)


def original_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights as the original's own loader wants them: with the buffers that it looks up by name.

    `load_released` reads it back exactly. Tables of task embeddings that a JOWA does without are zeros. Raises
    ValueError for a JOWA that values states, which the original cannot hold.
    """
    weights = copied_weights(model)
    if not isinstance(model, Jowa):
        return weights
    if model.config.state_value:
        raise ValueError("this JOWA learned a value of states (state_value), for which the original has no place")
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
