"""Outputs of Delta-IRIS's networks on recorded frames: the tokenizer, the world model, actor and target; revival.

Shapes: B segments, T steps, P changes, K tokens a change.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.delta_iris.loss import tokenizer_counts, tokenizer_loss
from models.delta_iris.numbers import points
from models.delta_iris.tokenizer import as_shown
from models.delta_iris.world_model import Foretold
from models.losses.binned import expected_value, two_hot
from models.parity.delta_iris.case import Case

EMBEDDED = 8  # codes whose decoder inputs are recorded


@torch.no_grad()
def tokenizer_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `tokenizer/*` and `loss/tokenizer_eval/*`. A file keeps pictures of the first changes only."""
    tokenizer, change, codes = case.agent.tokenizer, case.change(), case.agent.tokenizer.quantizer
    rows, steps = case.golden.tensor("batch/world_model/actions").shape
    shape = (rows, steps - 1)
    z = tokenizer.encode(change)
    drawn = tokenizer(change)
    patches_PKD = codes.post_quant_proj(drawn.told.straight_through).unflatten(0, (len(z), -1))
    raw = tokenizer.draw(change.before, change.actions_N, drawn.told.straight_through)
    counted, counts = case.golden.tensor("batch/world_model/mask_padding"), None
    counts = tokenizer_counts(counted, True)
    losses = tokenizer_loss(drawn, change, (counted[:, 1:] & counted[:, :-1]).flatten(), counts, case.config.weights)
    kept = {
        "decoder_input_q": tokenizer.grid(patches_PKD),
        "decoded_raw": raw,
        "encode_decode_uint8": 255 * as_shown(raw),
    }
    found = {
        "tokenizer/z": z.unflatten(0, shape),
        "tokenizer/tokens": drawn.told.tokens_n.view(*shape, -1),
        "tokenizer/q": patches_PKD.unflatten(0, shape),
        "tokenizer/commitment_loss_weighted": case.config.weights.commitment * losses.terms["commitment"],
        "tokenizer/embed_tokens_first8": codes.post_quant_proj(codes.codebook[:EMBEDDED]),
    }
    for name, each in kept.items():
        whole, entry = each.unflatten(0, shape), f"tokenizer/{name}"
        if entry in case.golden.arrays:
            first, second = case.golden.arrays[entry].shape[:2]
            whole = whole[:first, :second]
        found[entry] = whole
    return found | {
        f"loss/tokenizer_eval/{theirs}": getattr(case.config.weights, ours) * losses.terms[ours]
        for theirs, ours in TOKENIZER_TERMS.items()
    }


TOKENIZER_TERMS = {
    "commitment_loss": "commitment",
    "reconstruction_loss_l1": "l1",
    "reconstruction_loss_l2": "l2",
    "reconstruction_loss_l2_worst_pixel": "worst",
}
REVIVALS = {"peaked": "peaked", "blocked": "peaked", "collapsed": "collapsed"}  # by entry, the frequencies before


@torch.no_grad()
def revival_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `revival_*`: a batch is followed from given frequencies, where the count of updates and its limit, which
    the file states beside the results, allow revival or do not; in the recorded orders.
    """
    found: dict[str, Tensor] = {}
    told = case.agent.tokenizer(case.change()).told
    for name, frequencies in REVIVALS.items():
        stated = case.golden.arrays.get(f"revival_{name}/num_updates_before_and_max")
        if stated is None:
            raise ValueError(
                f"revival_{name}/num_updates_before_and_max is missing, which says how far revival is allowed"
            )
        codes = case.agent.tokenizer.quantizer
        usual, before, most = codes.revive_updates, int(stated[0]), int(stated[1])
        codes.codewords_freqs.copy_(case.golden.tensor(f"batch/revival/freqs_{frequencies}"))
        codes.num_codebook_updates.fill_(before)
        codes.revive_updates = most
        codes.move(told.latents_nE, told.tokens_n)
        revived = 0
        if codes.wants_revival():
            order_X, order_n = (
                case.golden.tensor(f"draws/revival_{name}/perm_{one}") for one in ("expired", "vectors")
            )
            expired_X = codes.expired()
            if len(order_X) != len(expired_X):
                raise ValueError(f"draws/revival_{name} orders {len(order_X)} codes, and {len(expired_X)} expired")
            revived = codes.revive(expired_X[order_X], told.latents_nE[order_n])
        codes.finish()
        found |= {
            f"revival_{name}/codewords_revived": torch.tensor(revived),
            f"revival_{name}/codebook_entropy": torch.tensor(codes.entropy(), dtype=torch.float64),
            f"revival_{name}/codebook": codes.codebook.clone(),
            f"revival_{name}/codewords_freqs": codes.codewords_freqs.clone(),
            f"revival_{name}/num_updates_before_and_max": torch.tensor([before, most]),
        }
        codes.revive_updates = usual
        case.restore("tokenizer")
    return found


def foretold(case: Case) -> tuple[Foretold, Tensor]:
    """The world model on whole segments, and the tokens of their changes."""
    frames, actions = (
        case.golden.frames("batch/world_model/observations"),
        case.golden.tensor("batch/world_model/actions"),
    )
    latents_BTK = case.agent.latents(frames, actions)
    return case.agent.world_model(frames, actions, latents_BTK), latents_BTK


@torch.no_grad()
def world_model_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*`: one pass over whole segments."""
    model, (found, latents_BTK) = case.agent.world_model, foretold(case)
    mask_BT = case.golden.tensor("batch/world_model/mask_padding")
    right = (found.latents_BTKV[:, :-1].argmax(-1) == latents_BTK[:, :-1])[mask_BT[:, :-1]]
    outputs = {
        "frame_embeddings": model.embed_frames(case.golden.frames("batch/world_model/observations"))[:, :, None],
        "output_sequence": found.hidden_BLD,
        "logits_latents": found.latents_BTKV.flatten(1, 2),
        "logits_rewards": found.rewards_BTV,
        "logits_ends": found.ends_BT2,
        "latent_accuracy": right.float().mean(),
    }
    if case.config.world_model.rewards == "two_hot":
        outputs["two_hot_rewards"] = two_hot(case.golden.tensor("batch/world_model/rewards"), points())
        outputs["decoded_rewards"] = expected_value(found.rewards_BTV, points())
    return {f"world_model/{name}": value for name, value in outputs.items()}


@torch.no_grad()
def actor_critic_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `actor_critic/*`: model and target on recorded frames, padding among them."""
    return dict(_actor_outputs(case))


def _actor_outputs(case: Case) -> Iterator[tuple[str, Tensor]]:
    frames_NTCRR = case.golden.frames("batch/actor_critic/observations")
    seen_NT = torch.ones_like(case.golden.tensor("batch/actor_critic/mask_padding"))
    for name in ("model", "target_model"):
        actor = getattr(case.agent.actor_critic, name)
        burnt = actor.burn_in(frames_NTCRR[:, :-1].unbind(1), seen_NT[:, :-1])
        found = actor(frames_NTCRR[:, -1], burnt)
        outputs = {
            "burnin_hx": burnt.hidden,
            "burnin_cx": burnt.cell,
            "logits_actions": found.logits_NA[:, None],
            "logits_values": found.critic_NZ[:, None],
            "hx": found.memory.hidden,
            "cx": found.memory.cell,
        }
        if case.config.actor_critic.values == "two_hot":
            outputs["decoded_values"] = found.values_N[:, None]
        yield from ((f"actor_critic/{name}/{entry}", value) for entry, value in outputs.items())
