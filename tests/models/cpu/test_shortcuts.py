"""One switch turns every shortcut off, and what is computed either way is the same."""

import copy
import importlib

import pytest
import torch
from torch import nn

from models.api import Batch, Context
from models.cpu import shortcuts
from models.cpu.dropout import Dropout
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, search
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer


@pytest.mark.parametrize(("value", "on"), [("", True), ("1", True), ("0", False)])
def test_the_environment_turns_them_off(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as environment:
        environment.setenv("WORLDLINE_CPU_SHORTCUTS", value)
        importlib.reload(shortcuts)
        found = shortcuts.taken(torch.zeros(1))
    importlib.reload(shortcuts)
    assert found is on


def test_they_are_for_tensors_on_a_cpu_and_come_back_after_an_error() -> None:
    x = torch.zeros(1)
    assert shortcuts.taken(x) and not shortcuts.taken(torch.zeros(1, device="meta"))
    with pytest.raises(KeyError), shortcuts.off(), shortcuts.off():
        assert not shortcuts.taken(x)
        raise KeyError
    assert shortcuts.taken(x)


def test_without_them_a_training_step_is_that_of_pytorchs_own_layers(model: Jowa, batch: Batch) -> None:
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    found = []
    for network in (model.train(), plain.train()):
        torch.manual_seed(0)
        with shortcuts.off():
            world_loss(network, batch).total.backward()
        found.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert len(found[0]) > 30
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_without_dropout_losses_are_the_same_bit_for_bit(model: Jowa, batch: Batch) -> None:
    with_them = world_loss(model.eval(), batch).total
    with shortcuts.off():
        assert torch.equal(with_them, world_loss(model, batch).total)


def test_a_search_finds_the_same_path(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(8)
    tokens_NCK = torch.randint(20, (3, 2, 4), generator=generator)
    context = Context(tokens_NCK, torch.zeros(3, 1, dtype=torch.long), torch.arange(3))
    legal_NA, world = torch.ones(3, 18, dtype=torch.bool), JowaWorld(model)
    with_them = search(world, context, legal_NA, Beam(3, 2), 0.99)
    with shortcuts.off():
        plain = search(world, context, legal_NA, Beam(3, 2), 0.99)
    assert torch.equal(with_them.actions_NH, plain.actions_NH) and torch.equal(with_them.tokens_NHK, plain.tokens_NHK)
    torch.testing.assert_close(with_them.scores_N, plain.scores_N, rtol=1e-4, atol=1e-4)


def test_a_tokenizer_gives_the_same_latents_and_tokens() -> None:
    config = TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=16, channels=16, res_blocks=1)
    tokenizer = Tokenizer(config, seed=0).eval()
    frames = torch.rand(11, 1, 84, 84, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with_them = tokenizer.encode(frames)
        with shortcuts.off():
            plain = tokenizer.encode(frames)
    torch.testing.assert_close(with_them.z, plain.z, rtol=1e-4, atol=1e-5)
    assert (with_them.tokens_BK == plain.tokens_BK).double().mean() > 0.99
