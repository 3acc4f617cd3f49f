from dataclasses import replace

import torch

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.recorded import ReplayedDropout, replay_dropout


def test_replayed_dropout_is_always_on_and_repeats() -> None:
    def draw(rate: float) -> torch.Tensor:
        return ReplayedDropout(rate, torch.Generator().manual_seed(4)).eval()(torch.ones(1000))

    assert torch.equal(draw(0.25), draw(0.25))
    dropped = (draw(0.25) == 0).float().mean().item()
    assert 0.2 < dropped < 0.3
    assert draw(0.5).max().item() == 2.0


def test_only_known_recordings_are_replayed(config: JowaConfig) -> None:
    model = Jowa(config)
    assert not replay_dropout(model)  # two members: no golden file has that
    assert replay_dropout(Jowa(replace(config, num_q=3)))
