"""An update of REM's world model against the plain way: rows of `worldline bench imagine`.

Segments of 10 blocks at the paper's sizes with random weights: losses, gradients, clip, AdamW. The plain way is that of
the paper's code: chunks of blocks one after another, in each a loop over blocks for the states behind them, then all
prediction tokens in a pass of their own from these states; every output is made, by PyTorch's layers. Ours reads and
predicts in one pass over the whole segment, with states by one product over blocks, and cheaper dropout on a CPU.

Shapes: B segments, T blocks of C tokens, K of them a frame's, N rows, L tokens, H heads, D width, E = D / H.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from models.api import Batch
from models.blocks.layers import decay_groups
from models.blocks.retnet import within
from models.cpu import shortcuts
from models.practice.blocks import learned, learned_counts
from models.practice.loss import token_world_loss
from models.practice.world import Outputs
from models.rem.config import RemConfig
from models.rem.world_model import WorldModel
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import WEIGHT_DECAY, Step, Taken, in_turns, kind_row, kinds
from pipelines.training.device import Device

AIM, AIM_BF16 = 1.5, 3.0
SAME_LOSS = 1e-5  # relative


def segments(config: RemConfig, rows: int) -> Batch:
    """Whole ones of random tokens, actions and rewards."""
    draws, shape = torch.Generator().manual_seed(0), (rows, config.world_model.max_steps)
    return Batch(
        actions_BT=torch.randint(0, config.world_model.num_actions, shape, generator=draws),
        rewards_BT=torch.randint(-1, 2, shape, generator=draws).float(),
        ends_BT=torch.zeros(shape),
        mask_BT=torch.ones(shape, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        tokens_BTK=torch.randint(
            0, config.tokenizer.vocab_size, (*shape, config.tokenizer.tokens_per_frame), generator=draws
        ),
    )


def plainly(model: WorldModel, tokens_BTK: Tensor, actions_BT: Tensor, codes_VE: Tensor) -> Outputs:
    """What `model` makes of segments, chunk by chunk."""
    retnet, block = model.retnet, model.tokens_per_block
    gammas_H, (rows, blocks) = retnet.gammas, actions_BT.shape
    x_BLD = model.embed(tokens_BTK, actions_BT, codes_VE)
    width, heads = x_BLD.shape[2], len(gammas_H)
    nothing = x_BLD.new_zeros(rows, heads, width // heads, width // heads)
    before: list[list[Tensor]] = [[nothing] for _ in retnet.layers]  # by layer, the state that enters each block
    ends, per_chunk = [], model.config.blocks_per_chunk * block
    for first in range(0, blocks * block, per_chunk):
        x_NLD = x_BLD[:, first : first + per_chunk]
        positions_L = torch.arange(first, first + x_NLD.shape[1])
        for layer, states in zip(retnet.layers, before, strict=True):
            x_NLD = layer(x_NLD, positions_L, partial(_chunk, gammas_H, states, block))
        ends.append(x_NLD[:, block - 1 :: block])
    positions_TK = torch.arange(blocks)[:, None] * block + torch.arange(block - 1)
    u_BLD = model.prediction_tokens(rows, blocks).flatten(1, 2)
    for layer, states in zip(retnet.layers, before, strict=True):
        u_BLD = layer(u_BLD, positions_TK.flatten(), partial(_predicted, gammas_H, torch.stack(states[:-1], dim=2)))
    seen_BTKD, action_BTD = u_BLD.unflatten(1, (blocks, -1)), torch.cat(ends, dim=1)
    return Outputs(
        torch.cat([seen_BTKD, action_BTD[:, :, None]], dim=2).flatten(1, 2),
        model.head_observations(u_BLD),
        model.head_rewards(action_BTD),
        model.head_ends(action_BTD),
        ahead=0,
    )


def _chunk(gammas_H: Tensor, states: list[Tensor], block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Outputs of a chunk that is entered with the last of `states`; those behind its blocks are added to them."""
    outputs = within(q, k, v, gammas_H, states[-1])
    left_HC1 = (gammas_H[:, None] ** torch.arange(block - 1, -1, -1)).to(q)[..., None]
    for k_NHCE, v_NHCE in zip(k.split(block, dim=2), v.split(block, dim=2), strict=True):
        kept_H11 = (gammas_H**block).to(q)[:, None, None]
        states.append(kept_H11 * states[-1] + (k_NHCE * left_HC1).mT @ v_NHCE)
    return outputs


def _predicted(gammas_H: Tensor, entered_NHTEE: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.unflatten(2, (entered_NHTEE.shape[2], -1)) for x in (q, k, v))
    return within(q, k, v, gammas_H, entered_NHTEE).flatten(2, 3)


Forward = Callable[[WorldModel, Tensor, Tensor, Tensor], Outputs]


def world_loss(model: WorldModel, forward: Forward, codes_VE: Tensor, batch: Batch) -> Tensor:
    """The sum of the three losses."""
    assert batch.tokens_BTK is not None
    outputs, context = forward(model, batch.tokens_BTK, batch.actions_BT, codes_VE), model.config.context
    counts_2 = learned_counts(batch, context, model.tokens_per_frame)
    return token_world_loss(outputs, batch, learned(batch, context), counts_2).total


def ours(model: WorldModel, tokens_BTK: Tensor, actions_BT: Tensor, codes_VE: Tensor) -> Outputs:
    """In one pass."""
    return model(tokens_BTK, actions_BT, codes_VE)


def update_rows(config: RemConfig, rows: int, rounds: int) -> list[Row]:
    """Ours in float32 and, where the processor has it, bf16, against the plain way in float32."""
    say("Updating REM's world model ...")
    types = kinds()
    model = WorldModel(config.world_model, config.tokenizer).eval()
    codes_VE = torch.randn(config.tokenizer.vocab_size, config.tokenizer.embed_dim)
    batch = segments(config, rows)
    with torch.no_grad():
        plain_loss, our_loss = (float(world_loss(model, forward, codes_VE, batch)) for forward in (plainly, ours))
    apart = abs(1 - our_loss / plain_loss)

    def step(forward: Forward, bf16: bool) -> Callable[[], object]:
        own = copy.deepcopy(model)
        loss = partial(world_loss, own, forward, codes_VE)
        return partial(Step(own, decay_groups(own, WEIGHT_DECAY), loss, Device("cpu", bf16)), batch)

    plain = step(plainly, False)

    def without_shortcuts() -> None:
        with shortcuts.off():
            plain()

    theirs, *taken = in_turns(rounds, without_shortcuts, *(step(ours, bf16) for bf16 in types))
    same = (f"without dropout both losses are the same within {SAME_LOSS:g} (apart by {apart:.1g})", apart <= SAME_LOSS)
    return [_row(config, rows, bf16, one, theirs, same) for bf16, one in zip(types, taken, strict=True)]


def _row(config: RemConfig, rows: int, bf16: bool, ours: Taken, theirs: Taken, same: tuple[str, bool]) -> Row:
    def text(taken: Taken) -> str:
        return f"{taken.wall:.2f} s, {taken.cpu:.2f} s CPU"

    what = f"update of REM's world model, {rows} segments x {config.world_model.max_steps} blocks"
    against = "chunk by chunk, plain, float32"
    return kind_row("rem-update", what, text, ours, theirs, (AIM, AIM_BF16), bf16, same, against=against)
