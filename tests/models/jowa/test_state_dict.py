import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from models.blocks.weights import misfit, released_weights
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.state_dict import jowa_sizes, load_released, original_state_dict, tokenizer_sizes
from models.parity.jowa.config import model_config, tokenizer_config
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_wrapped_names_and_buffers_load(config: JowaConfig, prefix: str) -> None:
    source, target = Jowa(config, seed=1), Jowa(config, seed=2)
    released = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    released[f"{prefix}head_q.indices"] = torch.arange(5)
    released[f"{prefix}transformer.blocks.0.attn.mask"] = torch.ones(2, 2)
    released[f"{prefix}lpips.net.weight"] = torch.ones(1)
    load_released(target, released)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_every_misfit_is_listed_and_nothing_is_loaded(config: JowaConfig) -> None:
    target, weights = Jowa(config, seed=2), Jowa(config, seed=1).state_dict()
    before = target.pos_emb.weight.clone()
    del weights["transformer.ln_f.bias"]
    weights["stranger"] = torch.ones(1)
    weights["head_ends.head_module.2.bias"] = torch.ones(7)
    with pytest.raises(ValueError) as caught:
        load_released(target, weights)
    message = str(caught.value)
    assert "missing: transformer.ln_f.bias" in message and "unexpected: stranger" in message
    assert "head_ends.head_module.2.bias (7,) for (2,)" in message and "\n" not in message
    assert torch.equal(before, target.pos_emb.weight)


def test_two_names_for_one_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        released_weights({"a.weight": torch.ones(1), "module.a.weight": torch.ones(1)})


GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("jowa_*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("family", ["jowa", "tokenizer"])
def test_the_originals_state_dict_comes_back_bit_for_bit(path: Path, family: str) -> None:
    """The golden files hold the original's own weights."""
    prefix = f"weights/{family}/"
    with np.load(path, allow_pickle=False) as file:
        theirs = {name.removeprefix(prefix): torch.from_numpy(file[name]) for name in file.files if prefix in name}
        stated = json.loads(str(file["meta/config"]))
    model: Jowa | Tokenizer
    if family == "jowa":
        model = Jowa(model_config(stated, stated["action"])[0])
    else:
        model = Tokenizer(tokenizer_config(stated)[0])
    load_released(model, {f"_orig_mod.module.{name}": tensor for name, tensor in theirs.items()})
    ours = released_weights(original_state_dict(model))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype for name, tensor in theirs.items())


def test_the_originals_buffers_are_written(config: JowaConfig) -> None:
    """Places of 5 steps of 4 tokens and an action, at which each head of the original speaks."""
    written = original_state_dict(Jowa(config))
    buffers = {name: tensor.tolist() for name, tensor in written.items() if name.endswith(".indices")}
    actions, frame_ends = [4, 9, 14, 19, 24], [3, 8, 13, 18, 23]
    assert buffers == {
        "head_observations.indices": [place for place in range(25) if place not in frame_ends],
        "head_rewards.indices": actions,
        "head_ends.indices": actions,
        "head_q.indices": frame_ends,
        "head_q_target.indices": frame_ends,
    }


def test_a_value_of_states_has_no_place_in_the_original(config: JowaConfig) -> None:
    with pytest.raises(ValueError, match="learned a value of states"):
        original_state_dict(Jowa(replace(config, state_value=1.0)))


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("task_embedding", [True, False])
@pytest.mark.parametrize("critic", ["c51", "mse"])
def test_shapes_tell_the_sizes_of_a_jowa(task_embedding: bool, critic: Literal["c51", "mse"]) -> None:
    config = JowaConfig(
        vocab_size=30, layers=3, heads=2, width=32, num_q=2, q_hidden=7, task_embedding=task_embedding, critic=critic
    )
    weights = shapes(Jowa(config))
    found = jowa_sizes(weights)
    assert {"layers", "width", "num_q", "q_hidden", "vocab_size", "max_tokens", "critic"} < found.keys()
    assert found == {name: getattr(config, name) for name in found}
    del weights["pos_emb.weight"]
    with pytest.raises(ValueError, match=r"not a JOWA's weights.*pos_emb\.weight"):
        jowa_sizes(weights)


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=12, channels=8),
        TokenizerConfig(channels=4, attention=False, patch_stem=2, downsample=(7,), res_blocks=1, quantizer="ema"),
        TokenizerConfig(channels=4, attention=False, patch_stem=7, downsample=(2,), channel_mult=(1, 2), res_blocks=3),
    ],
)
def test_shapes_tell_the_sizes_of_a_tokenizer(config: TokenizerConfig) -> None:
    found = tokenizer_sizes(shapes(Tokenizer(config)))
    assert {"vocab_size", "embed_dim", "channels", "channel_mult", "downsample", "quantizer"} < found.keys()
    assert found == {name: getattr(config, name) for name in found}


def test_weights_of_something_else_tell_nothing() -> None:
    others: list[dict[str, tuple[int, ...]]] = [{"linear.weight": (2, 2)}]
    others.append({"embedding.weight": (2,), "embedder.embedding_tables.1.weight": ()})
    for sizes in (jowa_sizes, tokenizer_sizes):
        for weights in others:
            with pytest.raises(ValueError, match="These are not a"):
                sizes(weights)


def test_unused_task_tables_are_ignored_and_written_as_zeros(config: JowaConfig) -> None:
    source, target = Jowa(config, seed=1), Jowa(replace(config, task_embedding=False), seed=2)
    load_released(target, source.state_dict())
    written = original_state_dict(target)
    assert written.keys() == original_state_dict(source).keys()
    assert not written["task_emb.embedding_tables.0.weight"].any()


def test_a_copy_is_written_not_the_weights_themselves(config: JowaConfig) -> None:
    model = Jowa(config)
    original_state_dict(model)["pos_emb.weight"].zero_()
    assert model.pos_emb.weight.any()


def test_a_tokenizer_keeps_its_perceptual_loss_to_itself() -> None:
    tokenizer = Tokenizer(TokenizerConfig(channels=4, vocab_size=8, embed_dim=4, z_channels=4))
    weights = {**original_state_dict(tokenizer), "module.lpips.net.slice1.0.weight": torch.ones(1)}
    assert not misfit(tokenizer, released_weights(weights))
    load_released(tokenizer, weights)
