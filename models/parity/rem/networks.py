"""Outputs of REM's networks on recorded frames: the tokenizer, retention in its forms, the world model, the actor.

Shapes: n frames, B segments, T blocks, K tokens a frame, C = K + 1, L tokens, H heads, E numbers of a head.
"""

import math

import torch
from torch import Tensor

from models.blocks.retnet import decay_mask, decays, parallel, recurrent, retained, rotated
from models.parity.learning import IGNORED, labels
from models.parity.rem.case import Case
from models.practice.blocks import learned
from models.practice.draws import Given


@torch.no_grad()
def tokenizer_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `tokenizer/*`. A file keeps pictures of the first frames only."""
    tokenizer, frames = case.agent.tokenizer, case.golden.frames("batch/tokenizer/observations").flatten(0, 1)
    found, grid = tokenizer(frames), (tokenizer.config.grid, -1)
    pictures, codes = (case.kept(f"tokenizer/{name}", len(frames)) for name in ("reconstruction", "codes_of_tokens"))
    return {
        "tokenizer/z": found.encoded.z,
        "tokenizer/z_quantized": found.encoded.z_quantized,
        "tokenizer/tokens": found.encoded.tokens_BK,
        "tokenizer/reconstruction": found.frames[:pictures],
        "tokenizer/codes_of_tokens": tokenizer.embedding.look_up(found.encoded.tokens_BK[:codes].unflatten(1, grid)),
        "tokenizer/tokens_world_model": case.tokens("world_model"),
        "tokenizer/tokens_actor_critic": case.tokens("actor_critic"),
    }


@torch.no_grad()
def retention_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `retention/*`: the forms on recorded q, k and v."""
    q, k, v = (case.golden.tensor(f"batch/retention/{name}") for name in "qkv")
    gammas_H, stated = decays(case.config.world_model.heads), case.recording
    length, split = q.shape[2], stated.retention_split
    if not 0 < split < length:
        raise ValueError(f"meta/config states retention_split {split}, which parts no sequence of {length} tokens")
    positions_L = torch.arange(stated.retention_start, stated.retention_start + length)
    k_scaled = k / math.sqrt(k.shape[3])
    before, behind = ([x[:, :, part] for x in (q, k_scaled, v)] for part in (slice(0, split), slice(split, length)))
    first, after_first = retained(before[0], before[1], before[2], gammas_H)
    entered = after_first[:, :, -1]
    last, after_last = retained(behind[0], behind[1], behind[2], gammas_H, entered)
    token_by_token, state = recurrent(q, k_scaled, v, gammas_H)
    by_block, states = retained(q, k_scaled, v, gammas_H, entered, stated.retention_block)
    mask = case.golden.arrays.get("retention/decay_mask")
    found = {
        "gammas": gammas_H.float(),
        "decay_mask": decay_mask(gammas_H, length if mask is None else mask.shape[1]).float(),
        "rotated_q": rotated(q, positions_L),
        "parallel": parallel(q, k_scaled, v, gammas_H),
        "chunk_output": torch.cat([first, last], dim=2),
        "chunk_state_first": entered,
        "chunk_state_last": after_last[:, :, -1],
        "recurrent_output": token_by_token,
        "recurrent_state": state,
        "block_output_from_state": by_block,
        "block_states_from_state": states.transpose(0, 2).transpose(1, 2),
    }
    return {f"retention/{name}": value for name, value in found.items()}


@torch.no_grad()
def retnet_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `retnet/*`: the decoder in each form on the first blocks of two segments."""
    model, batch, blocks = case.agent.world_model, case.batch("world_model"), case.recording.retnet_blocks
    x_NLD = model.embed(case.tokens("world_model"), batch.actions_BT, case.agent.codes())[:2]
    x_NLD, block = x_NLD[:, : blocks * model.tokens_per_block], model.tokens_per_block
    chunks = case.recording.retnet_chunks
    if sum(chunks) != x_NLD.shape[1] or min(chunks) < 1:
        raise ValueError(
            f"meta/config states retnet_chunks {chunks}, which are no parts of {blocks} blocks of {block} tokens"
        )
    table_CD = model.placeholder_embeddings.weight
    if case.config.world_model.shared_prediction_token:
        table_CD = table_CD[:1].expand_as(table_CD)
    whole = model.retnet.read(x_NLD, block=block, predict=table_CD.expand(2, blocks, -1, -1), behind=slice(0, blocks))
    found = {
        "parallel": model.retnet.read(x_NLD).outputs_NLD,
        "per_block/output": whole.outputs_NLD,
        "per_block/states": torch.stack([states.movedim(2, 0) for states in whole.states]),
        "prediction/output": whole.predicted_NMPD.flatten(1, 2),
    }
    for name, lengths in (("chunk", chunks), ("recurrent", (1,) * x_NLD.shape[1])):
        states: tuple[Tensor, ...] = ()
        outputs, first = [], 0
        for number, length in enumerate(lengths):
            reading = model.retnet.read(x_NLD[:, first : first + length], states, first)
            states, first = reading.last, first + length
            outputs.append(reading.outputs_NLD)
            if name == "chunk":
                found[f"chunk/states_{number}"] = torch.stack(states)
        found[f"{name}/output"] = torch.cat(outputs, dim=1)
    found["recurrent/states"] = torch.stack(states)
    return {f"retnet/{name}": value for name, value in found.items()}


@torch.no_grad()
def world_model_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*`: one pass over whole segments, what it is to predict, and two blocks played."""
    agent, batch, tokens_BTK = case.agent, case.batch("world_model"), case.tokens("world_model")
    model, actions_BT1 = agent.world_model, batch.actions_BT[..., None]
    outputs = model(tokens_BTK, batch.actions_BT, agent.codes())
    observations_BTK, rewards_BT, ends_BT = labels(batch, learned(batch, case.config.world_model.context))
    embedded = model.embed(tokens_BTK, batch.actions_BT, agent.codes())[:2]
    found = {
        "tokens": torch.cat([tokens_BTK, actions_BT1 + model.vocabulary], dim=2),
        "embedded": embedded.unflatten(1, (-1, model.tokens_per_block)),
        "output": outputs.hidden_BLD,
        "logits_observations": outputs.observations_BSV.unflatten(1, tokens_BTK.shape[1:]),
        "labels_observations": torch.cat([observations_BTK, torch.full_like(actions_BT1, IGNORED)], dim=2),
        "logits_rewards": outputs.rewards_BTV,
        "labels_rewards": rewards_BT,
        "logits_ends": outputs.ends_BT2,
        "labels_ends": ends_BT,
    }
    player, nothing_B = agent.player(), batch.actions_BT[:, :1].new_zeros(len(tokens_BTK))
    given = Given(rewards=[nothing_B], ends=[nothing_B], tokens=[tokens_BTK[:, 2]])
    player.follow(tokens_BTK[:, :2], batch.actions_BT[:, :1])
    player.step(batch.actions_BT[:, 1], given)
    found |= {
        "incremental/output": player.newest_ND,
        "incremental/n": torch.tensor(player.length),
        "incremental/states": torch.stack(player.retained),
        "incremental/next_logits": given.logits["tokens"][0],
    }
    return {f"world_model/{name}": value for name, value in found.items()}
