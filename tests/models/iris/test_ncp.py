"""World models of neural circuits: sequences against steps, sizes, first loss, learning, played, bad shapes.

The originals' numbers are compared by `worldline parity` (tests/models/parity/thesis).
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.api import Batch
from models.iris.config import WorldModelConfig
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.ncp import NcpFrames, NcpTokens
from models.iris.world import FramePlayer, TokenPlayer, new_world_model, player_of
from models.practice.draws import Given, likeliest

TOKENS = WorldModelConfig(32, 4, 5, 2, 1, 24, 0.0, 5, kind="ncp_tokens", units=60)
FRAMES = replace(TOKENS, kind="ncp_frames", width=8, units=90)
BOTH = pytest.mark.parametrize("config", [TOKENS, FRAMES], ids=lambda config: config.kind)


def segments(config: WorldModelConfig, rows: int = 2, steps: int = 5) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(
        actions_BT=torch.randint(0, config.num_actions, (rows, steps), generator=draw),
        rewards_BT=torch.randint(-3, 4, (rows, steps), generator=draw).float(),
        ends_BT=torch.zeros(rows, steps),
        mask_BT=torch.ones(rows, steps, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        tokens_BTK=torch.randint(0, config.vocab_size, (rows, steps, config.tokens_per_frame), generator=draw),
    )


def near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@torch.no_grad()
@BOTH
def test_playing_step_by_step_gives_what_whole_segments_give(config: WorldModelConfig) -> None:
    model, batch = new_world_model(config, seed=1).eval(), segments(config)
    assert batch.tokens_BTK is not None
    whole = model(batch.tokens_BTK, batch.actions_BT)
    nothing_N = torch.zeros(2, dtype=torch.long)
    places = list(batch.tokens_BTK[:, 1:].flatten(1).unbind(1))
    given, player = Given(rewards=[nothing_N] * 5, ends=[nothing_N] * 5, tokens=places), player_of(model)
    player.reset(batch.tokens_BTK[:, 0])
    for step, actions_N in enumerate(batch.actions_BT.unbind(1)):
        player.step(actions_N, given, observe=step < 4)
    near(torch.stack(given.logits["rewards"], 1), whole.rewards_BTV)
    near(torch.stack(given.logits["ends"], 1), whole.ends_BT2)
    said_NSV = torch.stack(given.logits["tokens"], 1)
    near(said_NSV, whole.observations_BSV[:, 4 - whole.ahead : -whole.ahead])


@torch.no_grad()
@BOTH
def test_another_start_frame_makes_another_rollout(config: WorldModelConfig) -> None:
    """The originals' rollouts began without it, or had read it twice."""
    model = new_world_model(config, seed=1).eval()
    for parameter in model.parameters():
        parameter *= 3  # first weights are so small that nothing tells
    said = []
    for start in (3, 4):
        player, given = player_of(model), Given(rewards=[torch.zeros(1)] * 2, ends=[torch.zeros(1)] * 2)
        player.reset(torch.full((1, config.tokens_per_frame), start))
        player.step(torch.zeros(1, dtype=torch.long), given, observe=False)
        said.append(given.logits["rewards"][0])
    assert not torch.equal(*said)


@torch.no_grad()
def test_a_token_model_reads_any_pieces_alike_and_never_forgets() -> None:
    model, tokens_BL = NcpTokens(TOKENS), torch.randint(0, 5, (2, 4 * 20))
    x_BLE = model.embedder.embedding_tables[1](tokens_BL)
    whole = model.hidden(x_BLE, model.empty_memory(2))
    memory = model.empty_memory(2)
    pieces = [model.hidden(piece, memory) for piece in x_BLE.split([1, 16, 3, 60], dim=1)]
    near(torch.cat(pieces, 1), whole)
    assert memory.length == 80 < memory.capacity  # longer than the segments it learns from


def test_sizes_of_the_thesis() -> None:
    """Trainable parameters, and with the masks of its wirings."""
    by_token = new_world_model(WorldModelConfig(num_actions=4, kind="ncp_tokens", layers=1))
    by_frame = new_world_model(WorldModelConfig(num_actions=4, kind="ncp_frames", units=3264, width=128, layers=2))
    for model, learning, everything in ((by_token, 1_275_541, 1_456_441), (by_frame, 87_247_181, 103_251_487)):
        found = sum(parameter.numel() for parameter in model.parameters())
        assert found == learning
        assert found + sum(buffer.numel() for buffer in model.buffers()) == everything


@torch.no_grad()
@BOTH
def test_the_first_loss_is_that_of_guessing(config: WorldModelConfig) -> None:
    config = replace(config, vocab_size=512)
    batch = segments(config, rows=4)
    assert batch.tokens_BTK is not None
    outputs = new_world_model(config)(batch.tokens_BTK, batch.actions_BT)
    losses = world_model_loss(outputs, batch, world_model_counts(batch, config))
    assert float(losses.terms["observations"]) == pytest.approx(math.log(512), abs=0.01)
    assert float(losses.terms["rewards"]) == pytest.approx(math.log(3), abs=0.01)


@BOTH
def test_every_weight_learns_and_parts_of_a_batch_add_up(config: WorldModelConfig) -> None:
    model, batch = new_world_model(config), segments(config, rows=4)
    counts = world_model_counts(batch, config)
    assert counts.tolist() == [4 * (5 * 4 - config.ahead), 20]

    def loss(rows: slice) -> Tensor:
        part = Batch(**{name: each[rows] for name, each in vars(batch).items() if each is not None})
        return world_model_loss(model(part.tokens_BTK, part.actions_BT), part, counts).total

    whole = loss(slice(0, 4))
    whole.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    near(loss(slice(0, 1)) + loss(slice(1, 4)), whole)


@BOTH
def test_seed_fixes_the_weights(config: WorldModelConfig) -> None:
    first, same, other = (new_world_model(config, seed) for seed in (1, 1, 2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(first.embedder.embedding_tables[0].weight, other.embedder.embedding_tables[0].weight)


@BOTH
def test_a_player_reads_the_weights_of_now(config: WorldModelConfig) -> None:
    model = new_world_model(config).eval()
    player, start_NK = player_of(model), torch.zeros(1, 4, dtype=torch.long)
    kind = FramePlayer if config.kind == "ncp_frames" else TokenPlayer
    assert isinstance(player, kind)
    for rows in (0, 1):
        given = Given(rewards=[torch.zeros(1)], ends=[torch.zeros(1)])
        with torch.no_grad():
            model.head_rewards.get_parameter("head_module.2.bias" if kind is TokenPlayer else "2.bias").fill_(rows)
        player.reset(start_NK)
        player.step(start_NK[:, 0], given, observe=False)
        assert float(given.logits["rewards"][0].mean()) == pytest.approx(rows, abs=0.1)


def test_what_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match="42 units cannot hold 40 outputs: give at least 43 units"):
        replace(FRAMES, units=42)
    with pytest.raises(ValueError, match="kind ncp_tokens has no blocks to freeze or"):
        replace(TOKENS, frozen=True)
    with pytest.raises(ValueError, match=r"Tokens \(2, 3, 3\) do not fit actions \(2, 3\)"):
        NcpFrames(FRAMES)(torch.zeros(2, 3, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long))
    for config in (TOKENS, FRAMES):
        player = player_of(new_world_model(config))
        with pytest.raises(ValueError, match="reset it first"):
            player.step(torch.zeros(1, dtype=torch.long), likeliest)
        with pytest.raises(ValueError, match=r"Tokens \(1, 1, 3\) are no frames of 4 tokens"):
            player.reset(torch.zeros(1, 3, dtype=torch.long))
