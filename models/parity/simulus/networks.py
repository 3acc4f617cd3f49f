"""Outputs of Simulus's networks on recorded frames: the tokenizer, bins, POP in both kinds, the world model, the actor.

Shapes: n frames, B segments, T blocks, K tokens a frame, L tokens, D width, M members.
"""

import torch
from torch import Tensor

from models.blocks.pop_attention import Places, turned, visible
from models.blocks.transformer import KVCache
from models.losses.binned import hl_gauss
from models.parity.simulus.case import Case, Watched
from models.practice.draws import Given
from models.tokenizers.fsq import FSQ


@torch.no_grad()
def tokenizer_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `tokenizer/*` and `fsq/*`. A file keeps pictures of the first frames only."""
    tokenizer, frames = case.agent.tokenizer, case.golden.frames("batch/tokenizer/observations").flatten(0, 1)
    found, z = tokenizer(frames), tokenizer.encoder(2 * frames - 1)
    tokens_nK = found.encoded.tokens_BK
    outputs = {
        "tokenizer/z": z,
        "tokenizer/z_quantized": tokenizer.maps(tokens_nK),
        "tokenizer/tokens": tokens_nK,
        "tokenizer/reconstruction": found.frames[: case.kept("tokenizer/reconstruction", len(frames))],
        "tokenizer/codes_of_tokens": tokenizer.maps(tokens_nK[: case.kept("tokenizer/codes_of_tokens", len(frames))]),
        "tokenizer/tokens_world_model": case.tokens("world_model"),
        "tokenizer/tokens_actor_critic": case.tokens("actor_critic"),
    }
    book = tokenizer.embedding
    if not isinstance(book, FSQ):
        return outputs
    probe_nF = case.golden.tensor("batch/probe/fsq_input")
    rounded = book.quantize(probe_nF.mT[None, :, :, None])
    return outputs | {
        "fsq/pre_quant": tokenizer.pre_quant_conv(z),
        "fsq/bounded": book.bounded(probe_nF),
        "fsq/codes": rounded.z_quantized[0, :, :, 0].mT,
        "fsq/indices": rounded.tokens_BK[0],
        "fsq/codes_of_all_indices": book.codes(),
    }


@torch.no_grad()
def bins_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `hl_gauss/*`."""
    targets, logits = (case.golden.tensor(f"batch/probe/{name}") for name in ("targets", "logits"))
    critic = case.agent.actor_critic.bins
    assert critic is not None
    found = {}
    for name, bins in (("critic", critic), ("reward", case.agent.world_model.bins)):
        found[f"{name}_support"] = bins.edges
        found[f"{name}_target_probs"] = hl_gauss(targets, bins.edges, clamp=False)
        found[f"{name}_values_of_logits"] = bins.value(logits)
    return {f"hl_gauss/{name}": value for name, value in found.items()}


@torch.no_grad()
def backbone_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `attention/*`, or `retention/*`."""
    model, batch = case.agent.world_model, case.batch("world_model")
    if case.config.world_model.backbone == "retnet":
        return {"retention/gammas": model.retnet.gammas.float()}
    x_LD = model.embed(case.tokens("world_model"), batch.actions_BT, case.agent.codes())[:1]
    cache = model.attention.empty_cache(1, x_LD.shape[1])
    read = model.attention.read(x_LD, cache)
    blocks, per_frame, per_block = 3, 4, 5  # k, n and n + m of the entries' names
    starts = tuple(range(0, blocks * per_block, per_block))
    places = Places(0, blocks * per_block, starts, per_frame)
    probe_NLHE = case.golden.tensor("batch/probe/rope")
    positions_L = torch.arange(5, 5 + probe_NLHE.shape[1])
    found = {
        "context_output": read.outputs_NLD,
        "cache_k_row0": unturned(cache),
        "cache_v_row0": cache.values[:, 0, :, : cache.length],
        "pop_mask_k3_n4_m1": pop_mask(places),
        "pred_positions_k3_n4_m1": places.positions(x_LD.device)[places.length :],
        "rope_output_start5": turned(probe_NLHE.transpose(1, 2), positions_L).transpose(1, 2),
    }
    return {f"attention/{name}": value for name, value in found.items()}


def unturned(cache: KVCache) -> Tensor:
    """Row 0's keys of all layers, as they were before they were turned."""
    return turned(cache.keys[:, 0, :, : cache.length], -torch.arange(cache.length))


def pop_mask(places: Places) -> Tensor:
    """What prediction tokens see: of all that is read and then of all runs, (M * P, L + M * P) bool."""
    rows = []
    for run, start in enumerate(places.starts):
        own = visible(torch.arange(places.per_run), places.per_run)
        before = visible(torch.full((places.per_run,), start - 1), places.length)
        runs = torch.zeros(places.per_run, len(places.starts), places.per_run, dtype=torch.bool)
        runs[:, run] = own
        rows.append(torch.cat([before, runs.flatten(1)], dim=1))
    return torch.cat(rows)


@torch.no_grad()
def world_model_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*`: one pass over whole segments, and two blocks played."""
    agent, batch, tokens_BTK = case.agent, case.batch("world_model"), case.tokens("world_model")
    model, steps = agent.world_model, tokens_BTK.shape[1]
    foreseen = model(tokens_BTK, batch.actions_BT, agent.codes())
    latents_BTKD = foreseen.latents_BTKD[:, :steps]
    logits_rewards = model.head_rewards(latents_BTKD[:, :, -1])
    logits = torch.cat([latents_BTKD, foreseen.actions_BTD[:, :, None]], dim=2)
    embedded = model.embed(tokens_BTK, batch.actions_BT, agent.codes())[:2]
    found = {
        "embedded": embedded.unflatten(1, (-1, model.tokens_per_block)),
        "output": logits.flatten(1, 2),
        "logits_observations": model.head_observations(
            latents_BTKD[: case.kept("world_model/logits_observations", len(tokens_BTK))]
        ),
        "logits_rewards": logits_rewards,
        "rewards": model.bins.value(logits_rewards),
        "logits_ends": model.head_ends(latents_BTKD[:, :, -1]),
    }
    if len(model.ensemble):
        found["jensen_shannon"] = model.ensemble.disagreement(latents_BTKD)
        found["ensemble_logits_row0_block1"] = torch.stack([head(latents_BTKD[0, 1]) for head in model.ensemble.heads])
        found["ensemble_training_logits_block1"] = model.ensemble.logits(latents_BTKD[:, 1:2], 0, len(tokens_BTK))[:, 0]
    return {f"world_model/{name}": value for name, value in (found | _incremental(case)).items()}


def _incremental(case: Case) -> dict[str, Tensor]:
    """Blocks 0 and 1 read and the next predicted; on attention, block 2 read and the next predicted too."""
    tokens_BTK, actions_BT = case.tokens("world_model"), case.batch("world_model").actions_BT
    player, nothing_B = case.agent.player(), actions_BT[:, 0] * 0
    attends = case.config.world_model.backbone == "attention"
    given = Given(ends=[nothing_B] * 2, tokens=[tokens_BTK[:, 2], tokens_BTK[:, 3]])
    player.follow(tokens_BTK[:, :2], actions_BT[:, :1])
    for step in range(1, 3 if attends else 2):
        player.step(actions_BT[:, step], given)
    found = {f"incremental/latents_block{number}": each for number, each in enumerate(player.seen, start=2)}
    if isinstance(player.states, KVCache):
        found["incremental/cache_k_layer0"] = unturned(player.states)[:1]
        return found | {"incremental/cache_length": torch.tensor(player.length)}
    states = torch.stack(player.states)
    return found | {"incremental/states": states, "incremental/n": torch.tensor(player.length)}


def played_states(player: Watched) -> dict[str, Tensor]:
    """What an imagined rollout leaves behind in a player."""
    if isinstance(player.states, KVCache):
        keys = unturned(player.states)[-1:]
        return {"cache_k_last_layer": keys, "cache_length": torch.tensor(player.length)}
    states = torch.stack(player.states)
    return {"world_model_states_last": states, "world_model_n_last": torch.tensor(player.length)}
