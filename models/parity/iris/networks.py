"""Outputs of IRIS's networks on recorded frames: the tokenizer, the world model on whole segments, the actor-critic.

Shapes: n frames, B segments, T steps, K tokens a frame.
"""

import torch
from torch import Tensor

from models.parity.iris.case import Case
from models.parity.learning import labels


@torch.no_grad()
def tokenizer_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `tokenizer/*`. A file keeps pictures of the first frames only, and of the last ones without gradient."""
    tokenizer, frames = case.tokenizer, case.golden.frames("batch/tokenizer/observations").flatten(0, 1)
    found = tokenizer(frames)
    first, last = case.recorded("tokenizer/reconstruction", 2), case.recorded("tokenizer/encode_decode_clamped", 1)
    codes_1hw = torch.arange(tokenizer.config.tokens_per_frame).view(1, tokenizer.config.grid, -1)
    return {
        "tokenizer/z": found.encoded.z,
        "tokenizer/z_quantized": found.encoded.z_quantized,
        "tokenizer/tokens": found.encoded.tokens_BK,
        "tokenizer/reconstruction": 2 * found.frames[:first] - 1,
        "tokenizer/encode_decode_clamped": tokenizer.decode_tokens(found.encoded.tokens_BK[len(frames) - last :]),
        "tokenizer/decoded_codes_0_to_K": tokenizer.decode(tokenizer.embedding.look_up(codes_1hw)),
    }


@torch.no_grad()
def world_model_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*`: one pass over whole segments, and what it is to predict."""
    batch = case.world_batch()
    assert batch.tokens_BTK is not None
    outputs = case.world_model(batch.tokens_BTK, batch.actions_BT)
    observations_BTK, rewards_BT, ends_BT = labels(batch, batch.mask_BT)
    return {
        "world_model/tokens": torch.cat([batch.tokens_BTK, batch.actions_BT[..., None]], dim=2).flatten(1),
        "world_model/output_sequence": outputs.hidden_BLD,
        "world_model/logits_observations": outputs.observations_BSV,
        "world_model/logits_rewards": outputs.rewards_BTV,
        "world_model/logits_ends": outputs.ends_BT2,
        "world_model/labels_observations": observations_BTK.flatten(1)[:, outputs.ahead :].flatten(),
        "world_model/labels_rewards": rewards_BT.flatten(),
        "world_model/labels_ends": ends_BT.flatten(),
    }


@torch.no_grad()
def actor_critic_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `actor_critic/*`: on recorded frames, the last one from nothing and after the masked burn-in."""
    actor, frames_NTCHW = case.actor_critic, case.golden.frames("batch/actor_critic/observations")
    mask_NT = case.golden.tensor("batch/actor_critic/mask_padding")
    found: dict[str, Tensor] = {}
    burnt = actor.burn_in(frames_NTCHW[:, :-1].unbind(1), mask_NT[:, :-1])
    for prefix, before in (("first_", actor.fresh(len(mask_NT))), ("", burnt)):
        judged = actor(frames_NTCHW[:, -1], before)
        found |= {
            f"actor_critic/{prefix}logits": judged.logits_NA[:, None],
            f"actor_critic/{prefix}values": judged.values_N[:, None, None],
            f"actor_critic/{prefix}hx": judged.memory.hidden,
            f"actor_critic/{prefix}cx": judged.memory.cell,
        }
    return found | {"actor_critic/burnin_hx": burnt.hidden, "actor_critic/burnin_cx": burnt.cell}
