"""The thesis's variants as recipes: what each changes of IRIS, and files of GPT-2 that are not there or not whole."""

import hashlib
from pathlib import Path

import pytest
import torch

from models.api import Learning
from models.iris.agent import IrisAgent
from models.iris.config import IrisConfig, WorldModelConfig
from models.iris.world_model import WorldModel
from pipelines.errors import UsageError
from pipelines.graph.experiment import register
from pipelines.recipes.registry import RECIPES, recipe
from pipelines.training.weight_files import outside_weights
from tests.models.parity.golden_files import load, path_of

THESIS = [name for name in RECIPES if name.startswith("iris_")]
TINY = ["learn.world_model.layers=3", "learn.world_model.heads=2", "learn.world_model.width=32"]


def networks(name: str) -> IrisConfig:
    found = recipe(name).learn.networks
    assert isinstance(found, IrisConfig)
    return found


def test_each_changes_what_its_name_says_and_fits_together() -> None:
    plain = networks("iris")
    for name in THESIS:
        networks(name).require_fit(20)
        changed = [
            part for part in ("tokenizer", "world_model") if getattr(networks(name), part) != getattr(plain, part)
        ]
        if "gpt2" in name or "ncp" in name:
            assert changed == ["world_model"], name
        elif name == "iris_value_critic":
            assert changed == ["tokenizer"]
    assert [use.name for use in recipe("iris_fixed_tokenizer").learn.uses] == ["world_model", "actor_critic"]
    noisy = recipe("iris_noise")
    protocols = (noisy.learn.collect.protocol, noisy.learn.check.protocol, noisy.evaluate.protocol)
    assert protocols == ("iris-train+noise0.05", "iris+noise0.05", "iris+noise0.05")


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A file of a tiny GPT-2 as Hugging Face's library saves it."""
    prefix = "weights/hf/"
    arrays = load(path_of("thesis_gpt2"))
    weights = {
        name.removeprefix(prefix): torch.tensor(each) for name, each in arrays.items() if name.startswith(prefix)
    }
    torch.save(weights, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


def started(file: Path, known: bool = False) -> IrisAgent:
    """An agent of the tiny size that begins to learn with that file; `known`: one that has learned before."""
    world = WorldModelConfig(layers=3, heads=2, width=32, pretrained=True, frozen=True, learning_blocks=1)
    config = IrisConfig(
        world_model=world, gpt2_file=str(file), gpt2_sha256=hashlib.sha256(file.read_bytes()).hexdigest()
    )
    agent = IrisAgent(config)
    outside = outside_weights(config.outside)
    learning = Learning(seed=0, legal_GA=torch.ones(0, 0, dtype=torch.bool), outside=outside, fresh=not known)
    agent.start(learning, ["world_model"])
    return agent


def test_a_fresh_agents_blocks_are_the_files_and_the_frozen_ones_stay(gpt2: Path) -> None:
    agent, theirs = started(gpt2), torch.load(gpt2, weights_only=True)
    assert isinstance(agent.world_model, WorldModel)
    blocks = agent.world_model.transformer.blocks
    assert torch.equal(blocks[1].attn.value.bias, theirs["transformer.h.1.attn.c_attn.bias"][64:])
    assert torch.equal(blocks[2].mlp[0].weight, theirs["transformer.h.2.mlp.c_fc.weight"].T)
    assert [block.attn.key.weight.requires_grad for block in blocks] == [False, False, True]
    assert blocks[0].ln1.weight.requires_grad and agent.world_model.pos_emb.weight.requires_grad
    decays, others = agent.optimiser("world_model", 1e-4, 0.01)[1]
    learning = {id(one) for one in (*decays["params"], *others["params"])}
    assert id(blocks[0].attn.key.weight) not in learning and id(blocks[2].attn.key.weight) in learning


def test_an_agent_that_has_learned_keeps_its_blocks(gpt2: Path) -> None:
    agent = started(gpt2, known=True)
    assert isinstance(agent.world_model, WorldModel)
    theirs = torch.load(gpt2, weights_only=True)["transformer.h.1.mlp.c_fc.bias"]
    assert not torch.equal(agent.world_model.transformer.blocks[1].mlp[0].bias, theirs)


def test_a_file_without_a_block_is_refused_in_one_line(gpt2: Path) -> None:
    weights = torch.load(gpt2, weights_only=True)
    del weights["transformer.h.1.attn.c_proj.bias"]
    torch.save(weights, gpt2)
    with pytest.raises(
        ValueError, match=r"^These are no weights of a GPT-2 of 3 layers.*c_proj\.bias is missing, 1 in"
    ):
        started(gpt2)


def test_no_file_and_another_file_are_refused_when_the_experiment_is_made(gpt2: Path, tmp_path: Path) -> None:
    for overrides, words in (
        ([], r"^GPT2 weights are wanted: say where they lie \(learn\.gpt2_file=PATH\)$"),
        ([f"learn.gpt2_file={gpt2}"], r"which the config must name: set learn\.gpt2_sha256=[0-9a-f]{64}$"),
    ):
        with pytest.raises(UsageError, match=words):
            register(tmp_path / "experiments", "mine", recipe("iris_gpt2_frozen", [*TINY, *overrides]))
    with pytest.raises(UsageError, match=r"gpt2_file is named and not read: set world_model\.pretrained=true"):
        register(tmp_path / "experiments", "mine", recipe("iris_gpt2", [f"learn.gpt2_file={gpt2}"]))
