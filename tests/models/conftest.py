"""A JOWA small enough to check by exhaustion, and a batch for it; another that has learned a small game."""

import pytest
import torch

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.loss import world_loss
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


MOVER = JowaConfig(
    vocab_size=20, tokens_per_frame=9, max_steps=5, layers=2, heads=2, width=32, dropout=0.0, num_q=2, q_hidden=12,
    num_games=3, embedding_std=0.1, factored_positions=True,
)  # fmt: skip


def moving(rows: int, seed: int) -> Batch:
    """Segments of a game whose action says where, on a background that stays, something stands in the next frame."""
    actions_BT = torch.randint(18, (rows, 5), generator=torch.Generator().manual_seed(seed))
    before_BT1 = torch.cat([torch.zeros(rows, 1, dtype=torch.long), actions_BT[:, :-1]], dim=1)[..., None]
    place_K = torch.arange(9)
    none_BT = torch.zeros(rows, 5)
    return Batch(
        tokens_BTK=torch.where(place_K == before_BT1 % 9, 0, place_K + 1),
        actions_BT=actions_BT,
        rewards_BT=none_BT,
        ends_BT=none_BT.long(),
        mask_BT=torch.ones(rows, 5, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
    )


@pytest.fixture(scope="session")
def mover() -> Jowa:
    """A JOWA that has learned that game, as good as without fail (3 s)."""
    torch.set_num_threads(1)
    model = Jowa(MOVER, seed=1).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        optimiser.zero_grad()
        world_loss(model, moving(16, step)).total.backward()
        optimiser.step()
    return model.eval()
