"""A JOWA small enough to check by exhaustion, and a batch for it."""

import pytest
import torch

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config() -> JowaConfig:
    return JowaConfig(
        vocab_size=20, tokens_per_frame=4, max_steps=5, layers=2, heads=2, width=16, num_q=2, q_hidden=12, num_games=3
    )


@pytest.fixture
def model(config: JowaConfig) -> Jowa:
    """In eval mode, with weights large enough that actions and tokens differ from input to input."""
    model = Jowa(config, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    model.update_target()
    return model


@pytest.fixture
def batch(config: JowaConfig) -> Batch:
    """Three segments of five steps: full, ended and padded on the right, padded on the left."""
    generator = torch.Generator().manual_seed(3)
    shape = (3, 5)
    mask_BT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]).bool()
    ends_BT = torch.zeros(shape, dtype=torch.long)
    ends_BT[1, 2] = 1
    return Batch(
        tokens_BTK=torch.randint(config.vocab_size, (*shape, config.tokens_per_frame), generator=generator),
        actions_BT=torch.randint(config.num_actions, shape, generator=generator),
        rewards_BT=torch.randint(-1, 2, shape, generator=generator).float() * mask_BT,
        ends_BT=ends_BT,
        mask_BT=mask_BT,
        games_B=torch.tensor([0, 2, 1]),
    )
