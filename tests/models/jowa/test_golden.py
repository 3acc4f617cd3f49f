from dataclasses import replace

import numpy as np
import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.golden import WEIGHTS, config_from_weights, read_model
from models.jowa.model import Jowa


@pytest.mark.parametrize("task_embedding", [True, False])
@pytest.mark.parametrize("critic", ["c51", "mse"])
def test_config_is_read_back_from_weights(task_embedding: bool, critic: str) -> None:
    config = JowaConfig(
        vocab_size=30, layers=3, heads=2, width=128, num_q=2, q_hidden=7, task_embedding=task_embedding, critic=critic
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in Jowa(config).state_dict().items()}
    assert config_from_weights(shapes) == config
    del shapes["pos_emb.weight"]
    with pytest.raises(ValueError, match=r"pos_emb\.weight"):
        config_from_weights(shapes)


def test_index_buffers_tell_the_tokens_of_a_frame(config: JowaConfig) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Jowa(config).state_dict().items()}
    shapes |= {"head_observations.indices": (20,), "head_q.indices": (5,)}
    found = config_from_weights(shapes)
    assert (found.tokens_per_frame, found.max_steps) == (config.tokens_per_frame, config.max_steps) == (4, 5)


@pytest.mark.parametrize(("heads", "task_embedding"), [(1, True), (4, True), (2, False), (8, False)])
def test_what_weights_do_not_tell_is_read_from_hidden_states(
    config: JowaConfig, heads: int, task_embedding: bool
) -> None:
    """The original keeps tables of task embeddings even where it does not use them."""
    recorded = Jowa(replace(config, heads=heads, task_embedding=task_embedding), seed=3).eval()
    with torch.no_grad():
        for parameter in recorded.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    weights = {**Jowa(config).state_dict(), **recorded.state_dict()}
    arrays = {WEIGHTS + name: tensor.numpy() for name, tensor in weights.items()}
    arrays |= {WEIGHTS + "head_observations.indices": np.arange(20), WEIGHTS + "head_q.indices": np.arange(5)}
    arrays["forward/tokens"] = np.arange(50).reshape(2, 25) % 18
    arrays["forward/games"] = np.array([2, 0])
    inputs = torch.from_numpy(arrays["forward/tokens"]), torch.from_numpy(arrays["forward/games"])
    arrays["forward/hidden"] = recorded(*inputs).hidden_BLD.detach().numpy()
    found = read_model(arrays)
    assert (found.config.heads, found.config.task_embedding) == (heads, task_embedding)
    torch.testing.assert_close(found(*inputs).hidden_BLD, recorded(*inputs).hidden_BLD)
