"""Both sides of the benchmark imagine, learn and play the same, or their ratio says nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.blocks.layers import SpatialAttention
from models.blocks.transformer import CausalAttention
from models.cpu import shortcuts
from models.iris.world_model import WorldModel
from pipelines.environments.atari.games import PROTOCOLS
from pipelines.tools.bench import imagine, imagine_games, train, train_plain
from pipelines.tools.bench.imagine import QUICK, Ours, dreamt, random_frames, world_loss
from pipelines.tools.bench.imagine_plain import Plain, PlainSpatialAttention
from pipelines.tools.bench.train import random_batch
from pipelines.training.device import Device

EXACT = Device("cpu", False)


def sides() -> tuple[Ours, Plain]:
    ours = Ours(QUICK.networks)
    return ours, Plain(ours.tokenizer, ours.world_model, ours.actor_critic)


@pytest.mark.parametrize("horizon", [1, 3, 7])  # the last two go beyond the world model's context of 3 steps
def test_both_sides_imagine_the_same(horizon: int) -> None:
    ours, plain = sides()
    tokens_NK = random_frames(QUICK.networks.world_model, 5)
    (mine, drawn), (theirs, others) = (dreamt(side.imagine, tokens_NK, horizon, EXACT) for side in (ours, plain))
    assert torch.equal(drawn, others)
    assert drawn.shape == (5, 3 * horizon + 16 * (horizon - 1))  # an action, a reward, an end; a frame but the last
    torch.testing.assert_close(mine.seen_NHCHW, theirs.seen_NHCHW, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mine.values_NH, theirs.values_NH, atol=1e-5, rtol=1e-4)


def test_the_plain_side_is_plain_and_leaves_ours_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = sides()
    assert not any(isinstance(module, CausalAttention) for module in plain.world_model.modules())
    attention = [type(each) for each in plain.tokenizer.modules() if isinstance(each, SpatialAttention)]
    assert set(attention) == {PlainSpatialAttention}
    assert not any(isinstance(module, PlainSpatialAttention) for module in ours.tokenizer.modules())
    taken, asked = shortcuts.taken, list[bool]()
    monkeypatch.setattr(shortcuts, "taken", lambda x: asked.append(taken(x)) or asked[-1])
    tokens_NK = random_frames(QUICK.networks.world_model, 2)
    dreamt(plain.imagine, tokens_NK, 2, EXACT)
    assert asked and not any(asked)
    dreamt(ours.imagine, tokens_NK, 2, EXACT)
    assert any(asked)


def test_both_sides_have_the_same_losses_and_gradients() -> None:
    model = WorldModel(QUICK.networks.world_model).eval()
    plain = train_plain.plain(model, model.config.max_tokens)
    assert not plain.training
    batch = random_batch(model.config, 3)
    losses = [world_loss(each, batch) for each in (model, plain)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    others = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, others[name].grad, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["Breakout", "Pong", "Boxing"])
def test_wrappers_and_ours_show_the_same_through_lost_lives_and_limits(game: str) -> None:
    rules = replace(PROTOCOLS["iris-train"], max_frames=400)
    actions = np.random.default_rng(2).integers(4, size=300)
    mine, theirs = (list(play(game, rules, actions)) for play in (imagine_games.play_ours, imagine_games.play_stack))
    assert len(mine) == len(theirs) == 301
    for (frame, reward), (other, points) in zip(mine, theirs, strict=True):
        assert reward == points and np.array_equal(frame, other)
    assert len({frame.tobytes() for frame, _ in mine}) > 50


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_every_row_is_measured_and_float32_is_the_same(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.device, "cpu_has_bf16", lambda: bf16)
    before = torch.get_num_threads()
    rows = imagine.run(QUICK)
    kinds = ("", "-bf16") if bf16 else ("",)
    assert [row.name for row in rows] == [f"{name}{kind}" for name in ("imagine", "world-model") for kind in kinds] + [
        "context-1",
        "context-2",
        "game",
        "rem-fused",
        "rem-pop",
        *(f"rem-update{kind}" for kind in kinds),
        "rem-frames",
        "simulus-frames",
        *(f"delta-{name}{kind}" for name in ("atari", "tokenizer") for kind in kinds),
    ]
    assert all(row.ratio > 0 for row in rows)
    for row in rows:
        assert all(met for _, met in row.conditions) and bool(row.conditions) != row.name.endswith(
            ("-bf16", "rem-pop", "-frames")
        )
    assert (train.NO_BF16 in rows[0].notes) != bf16
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_side_that_shows_something_else_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = imagine_games.play_stack
    monkeypatch.setattr(imagine_games, "play_stack", lambda *given: [(frame, 1.0) for frame, _ in theirs(*given)])
    row = imagine_games.games_row("Breakout", 20, 1)
    assert not row.conditions[0][1] and not row.reached
