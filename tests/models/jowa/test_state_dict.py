from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.golden import config_from_weights as jowa_config
from models.jowa.model import Jowa
from models.jowa.state_dict import load_released, misfit, original_state_dict, released_weights
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.parity import config_from_weights as tokenizer_config
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


GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("family", ["jowa", "tokenizer"])
def test_the_originals_state_dict_comes_back_bit_for_bit(path: Path, family: str) -> None:
    """The golden files hold the original's own state_dicts, buffers and all."""
    prefix = f"weights/{family}/"
    with np.load(path, allow_pickle=False) as file:
        theirs = {name.removeprefix(prefix): torch.from_numpy(file[name]) for name in file.files if prefix in name}
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    model: Jowa | Tokenizer = Jowa(jowa_config(shapes)) if family == "jowa" else Tokenizer(tokenizer_config(shapes))
    load_released(model, {f"_orig_mod.module.{name}": tensor for name, tensor in theirs.items()})
    ours = original_state_dict(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype for name, tensor in theirs.items())


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
