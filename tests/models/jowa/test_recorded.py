from dataclasses import replace

import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.recorded import ReplayedDropout, find_dropout, read_units, replay_dropout


def test_replayed_dropout_is_always_on_and_repeats() -> None:
    def draw(rate: float) -> torch.Tensor:
        return ReplayedDropout(rate, torch.Generator().manual_seed(4)).eval()(torch.ones(1000))

    assert torch.equal(draw(0.25), draw(0.25))
    dropped = (draw(0.25) == 0).float().mean().item()
    assert 0.2 < dropped < 0.3
    assert draw(0.5).max().item() == 2.0


def stream(seed: int, words: int) -> torch.Generator:
    """A generator that has made some draws of 32 bits."""
    generator = torch.Generator().manual_seed(seed)
    torch.rand(words, generator=generator)
    return generator


@pytest.mark.parametrize(("seed", "words", "members"), [(0, 0, 1), (7, 4_321, 2), (40, 60_000, 3)])
def test_a_stream_is_found_from_the_logits_alone(config: JowaConfig, seed: int, words: int, members: int) -> None:
    model = Jowa(replace(config, num_q=members, q_hidden=24), seed=3).eval()
    frame_ends_ND = torch.randn(50, config.width, generator=torch.Generator().manual_seed(1))
    clean = model.head_q(frame_ends_ND)
    replay_dropout(model, stream(seed, words))
    recorded, target = model.head_q(frame_ends_ND), model.head_q_target(frame_ends_ND)
    assert not torch.allclose(clean, recorded)
    found = find_dropout(model, frame_ends_ND, recorded)
    assert found is not None
    replay_dropout(model, found)
    assert torch.equal(model.head_q(frame_ends_ND), recorded)
    assert torch.equal(model.head_q_target(frame_ends_ND), target)  # the stream goes on


def test_units_are_read_and_a_row_that_nothing_explains_stays_unknown(model: Jowa, config: JowaConfig) -> None:
    frame_ends_ND = torch.randn(30, config.width, generator=torch.Generator().manual_seed(1))
    replay_dropout(model, stream(1, 0))
    recorded = model.head_q(frame_ends_ND)
    keep = torch.rand(2, 30, 12, dtype=torch.float64, generator=stream(1, 0)) < 0.99
    recorded[1, 4] += 1
    units = read_units(model.head_q, config.q_dropout, frame_ends_ND, recorded)
    assert (units[1, 4] == -1).all()
    few = (~keep).sum(-1) <= 2
    few[1, 4] = False
    assert torch.equal(units[few], keep[few].to(torch.int8))


def test_logits_without_dropout_or_of_another_model_give_no_stream(model: Jowa, config: JowaConfig) -> None:
    frame_ends_ND = torch.randn(5, config.width, generator=torch.Generator().manual_seed(1))
    assert find_dropout(model, frame_ends_ND, model.head_q(frame_ends_ND)) is None
    assert find_dropout(model, frame_ends_ND, torch.randn(2, 5, 18 * 51)) is None
