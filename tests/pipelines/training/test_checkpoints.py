"""Networks at rest: the same numbers after loading, and one line for a file that is not one."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.errors import WorldlineError
from pipelines.training.checkpoints import load_model, load_tokenizer, save, trainable
from pipelines.training.device import Device

CPU = Device("cpu", False)
TOKENIZER = TokenizerConfig(
    vocab_size=16, embed_dim=8, z_channels=8, channels=2, channel_mult=(1, 2), res_blocks=1, attention=False,
    downsample=(7,), patch_stem=2, quantizer="ema",
)  # fmt: skip
MODEL = JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=8, task_ids=((2, 1),))


def test_a_tokenizer_comes_back_whole(tmp_path: Path) -> None:
    ours = Tokenizer(TOKENIZER, seed=5)
    save(tmp_path / "t.safetensors", ours, TOKENIZER)
    found = load_tokenizer(tmp_path / "t.safetensors", CPU)
    assert found.config == TOKENIZER
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    frames = torch.randint(0, 256, (3, 84, 84), dtype=torch.uint8)
    assert torch.equal(found.encode_tokens(frames), ours.eval().encode_tokens(frames))


def test_a_model_comes_back_whole_and_may_learn_again(tmp_path: Path) -> None:
    ours = Jowa(MODEL, seed=5)
    save(tmp_path / "m.safetensors", ours, MODEL)
    found = load_model(tmp_path / "m.safetensors", CPU)
    assert found.config == MODEL
    for name, value in ours.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    trainable(found)
    frozen = {name for name, parameter in found.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in ours.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith("head_q_target.") for name in frozen)


def _junk(path: Path) -> None:
    path.write_bytes(b"junk" * 99)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _no_config(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def _no_json(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"config": "{"})


def _strange_field(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"config": json.dumps({"colour": 1})})


def _config_of_no_fields(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"config": "[1]"})


def _impossible_size(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"config": json.dumps({"vocab_size": 0})})


def _other_network(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, metadata={"config": "{}"})


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _junk,
        _empty,
        _truncated,
        _no_config,
        _no_json,
        _strange_field,
        _config_of_no_fields,
        _impossible_size,
        _other_network,
        _gone,
    ],
)
@pytest.mark.parametrize("load", [load_tokenizer, load_model])
def test_a_file_that_is_no_such_network_is_named_in_one_line(tmp_path: Path, damage, load) -> None:
    path = tmp_path / "weights.safetensors"
    ours = (Tokenizer(TOKENIZER), TOKENIZER) if load is load_tokenizer else (Jowa(MODEL), MODEL)
    save(path, *ours)
    damage(path)
    with pytest.raises(WorldlineError, match=re.escape(str(path)) + ".*make its artefact again") as caught:
        load(path, CPU)
    assert "\n" not in str(caught.value)
