"""Outputs of JOWA's networks: the tokenizer, one pass over whole segments, and imagined steps token by token.

Shapes: N rows, C steps of context, S imagined steps, K tokens a frame, A actions, T steps, V vocabulary.
"""

import torch
from torch import Tensor

from models.api import Context
from models.blocks.transformer import KVCache
from models.jowa.loss import expected_values, sequence
from models.jowa.model import WORLD_HEADS, Outputs
from models.jowa.world import JowaWorld, context_tokens
from models.parity.jowa.case import Case


@torch.no_grad()
def tokenizer_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `tokenizer/*`."""
    tokenized = case.tokenizer(case.golden.frames("batch/tokenizer/observations"))
    encoded = tokenized.encoded
    return {
        "tokenizer/z": encoded.z,
        "tokenizer/tokens": encoded.tokens_BK,
        "tokenizer/z_quantized": encoded.z_quantized,
        "tokenizer/reconstruction": tokenized.frames,
        "tokenizer/decoded": case.tokenizer.decode_tokens(case.golden.tensor("batch/tokenizer/decode")),
        "tokenizer/batch_tokens": case.tokenizer.encode_tokens(case.golden.tensor("batch/observations")),
    }


@torch.no_grad()
def forward_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `forward/*`: hidden states, logits of every head, and the ensemble's expected values."""
    batch = case.batch()
    outputs = case.model(sequence(batch), batch.games_B)
    found = {"forward/hidden": outputs.hidden_BLD}
    for head, logits in outputs.logits.items():
        found[f"forward/logits_{head}"] = logits.flatten(-2) if head in ("q", "q_target") else logits
        if head in ("q", "q_target"):
            found[f"forward/values_{head}"] = expected_values(logits, case.model.config)
    return found


@torch.no_grad()
def env_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `env/*`: given actions are taken inside the model, which imagines the most likely classes.

    Values, rewards, ends and tokens are those of the world that planners step; the logits of each pass, and the keys
    and values of every layer, are those of the network, which reads the same tokens one by one.
    """
    tensor = case.golden.tensor
    context = Context(tensor("batch/env/tokens"), tensor("batch/env/actions"), tensor("batch/env/envs"))
    actions_NS = tensor("batch/env/step_actions")
    world = JowaWorld(case.model)
    here = [world.reset(context)] + [world.step(actions_N) for actions_N in actions_NS.T]
    tokens_NSK = torch.stack([one.tokens_NK for one in here[1:]], dim=1)
    cache = case.model.empty_cache(len(actions_NS))
    case.model(context_tokens(context, case.model.config.tokens_per_frame), context.games_N, cache, heads=())
    steps = [
        _read(case, context.games_N, cache, torch.cat([actions_NS[:, step, None], tokens_NSK[:, step]], dim=1))
        for step in range(actions_NS.shape[1])
    ]
    logits = {f"env/logits_{head}": torch.stack([step[head] for step in steps], dim=1) for head in WORLD_HEADS}
    return logits | {
        "env/values": torch.stack([one.values_NA for one in here], dim=1),
        "env/rewards": torch.stack([one.rewards_N for one in here[1:]], dim=1),
        "env/ends": torch.stack([one.ends_N for one in here[1:]], dim=1),
        "env/tokens": tokens_NSK,
        "env/cache_keys": cache.keys[:, :, :, : cache.length],
        "env/cache_values": cache.values[:, :, :, : cache.length],
    }


def _read(case: Case, games_N: Tensor, cache: KVCache, step_NL: Tensor) -> dict[str, Tensor]:
    """Logits of one step, (N, 3), (N, 2) and (N, K, V): its action and its tokens are read in a pass each."""
    passes: list[Outputs] = [case.model(token_N1, games_N, cache, WORLD_HEADS) for token_N1 in step_NL.split(1, dim=1)]
    observations = [one.logits["observations"][:, 0] for one in passes[:-1]]  # the last token predicts none
    at_action = {head: passes[0].logits[head][:, 0] for head in ("rewards", "ends")}
    return at_action | {"observations": torch.stack(observations, dim=1)}
