import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.names import load_released, released_weights


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
