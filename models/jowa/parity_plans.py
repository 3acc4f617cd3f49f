"""Checks of planning and imagination against a golden file (entries `plan/GAME/STEPS/KIND` and `imagine/*`).

A plan must come out of the original's order of calls (`recorded_plans.py`) as it was recorded, and the planner that
plays must choose as that order does on the same model without dropout. Recorded tree searches repeat two faults of the
original, so the second condition is put to beam searches and greedy play alone.
"""

import re

import numpy as np
import torch
from torch import Tensor

from models.api import Batch, Context
from models.jowa.config import JowaConfig
from models.jowa.recorded_plans import Original, Simulations, beam_search, tree_search
from models.jowa.recording import Recording
from models.jowa.world import JowaWorld, context_values
from models.parity import Check, compare_exact, compare_truncated
from models.planning.beam import Beam, masked_values, plan
from models.tokenizers.vq import Tokenizer

TREE = "with the faults of the original's tree search: the root's cache in every node, -inf in means"
ALIGNED = "in the original's arrangement, where actions and rewards stand one step too early against the frames"
UNLIKE = "the recorded action agrees, but models/planning chooses another one without dropout"
IMAGINED_WIDTH = 2


def check_plan(recording: Recording, entry: str) -> list[Check]:
    """The action of one recorded plan; nothing where its kind or game is unknown."""
    golden, config = recording.golden, recording.clean.config
    _, game, _, kind = entry.split("/")
    if game not in golden.game_ids:
        return []
    tokens_NL = golden.tensor(entry.removesuffix(kind) + "context")
    games_N = torch.full((len(tokens_NL),), golden.game_ids[game])
    legal_NA = golden.legal_GA[games_N]
    recorded, clean = (Original(model, games_N, legal_NA) for model in (recording.model, recording.clean))
    if kind == "greedy":
        ours_N, reference_N = recorded.reset(tokens_NL)[0].argmax(1), clean.reset(tokens_NL)[0].argmax(1)
        context = _context(tokens_NL, games_N, config)
        played_N = masked_values(context_values(recording.clean, context), legal_NA).argmax(1)
    elif match := re.fullmatch(r"beam_w(\d+)_h(\d+)", kind):
        beam = Beam(int(match[1]), int(match[2]))
        context_NL = _newest(tokens_NL, beam.horizon, config)
        ours_N, reference_N = _beam(recorded, context_NL, beam), _beam(clean, context_NL, beam)
        context = _context(context_NL, games_N, config)
        played_N = plan(JowaWorld(recording.clean), context, legal_NA, beam, config.gamma)
    elif match := re.fullmatch(r"mcts_n(\d+)_h(\d+)_mean([01])_count([01])_t(\d+\.?\d*)", kind):
        search = Simulations(int(match[1]), int(match[2]), match[3] == "1", match[4] == "1", float(match[5]))
        action = tree_search(recorded, _newest(tokens_NL, search.horizon, config), search, root_cache=True)
        return recording.noted([compare_exact(entry, np.array([action]), golden.arrays[entry])], TREE)
    else:
        return []
    check = compare_exact(entry, ours_N.numpy(), golden.arrays[entry])
    if check.ok and not torch.equal(played_N, reference_N):
        return [Check(entry, float((played_N != reference_N).float().mean()), ok=False, note=UNLIKE)]
    return recording.noted([check])


def _beam(original: Original, context_NL: Tensor, beam: Beam) -> Tensor:
    """First actions (N,): the original searches no wider than it has legal actions."""
    expand = min(beam.width, int(original.legal_NA[0].sum()))
    paths = beam_search(original, context_NL, beam.width, expand, beam.horizon)
    return torch.tensor([path.actions[0] for path in paths])


def _newest(tokens_NL: Tensor, horizon: int, config: JowaConfig) -> Tensor:
    """The newest steps that leave room for the horizon; the last has no action yet."""
    return tokens_NL[:, -((config.max_steps - horizon) * config.tokens_per_step - 1) :]


def _context(tokens_NL: Tensor, games_N: Tensor, config: JowaConfig) -> Context:
    # A zero action completes the last step for the split.
    steps_NCK = torch.nn.functional.pad(tokens_NL, (0, 1)).unflatten(1, (-1, config.tokens_per_step))
    return Context(steps_NCK[:, :, :-1], steps_NCK[:, :-1, -1], games_N)


def check_imagined(recording: Recording, tokenizer: Tokenizer) -> list[Check]:
    """The batch's segments whose last steps are real, gone on with in the model."""
    golden, config, batch = recording.golden, recording.clean.config, recording.golden.batch()
    frames_BTHW = golden.tensor("batch/observations")
    horizon = _horizon(frames_BTHW, batch, golden.tensor("imagine/observations").squeeze(2))
    rows = batch.mask_BT[:, horizon:].all(1)
    tokens_NL = golden.tensor("forward/tokens")[rows, horizon * config.tokens_per_step : -1]
    games_N = batch.games_B[rows]
    original = Original(recording.model, games_N, golden.legal_GA[games_N])
    paths = beam_search(original, tokens_NL, IMAGINED_WIDTH, IMAGINED_WIDTH, horizon)
    imagined_NTHW = tokenizer.decode_tokens(torch.stack([torch.stack(path.frames) for path in paths])).squeeze(2)
    context_NTHW = frames_BTHW[rows, horizon:].float() / 255
    # The original keeps the actions from one step later than the frames, then the plan's, the last one twice.
    actions_NT = torch.tensor([path.actions + path.actions[-1:] for path in paths])
    rewards_NT = torch.tensor([path.rewards + path.rewards[-1:] for path in paths])
    ours = {
        "actions": torch.cat([batch.actions_BT[rows, horizon + 1 :], actions_NT], 1),
        "rewards": torch.cat([batch.rewards_BT[rows, horizon + 1 :], rewards_NT], 1),
        "ends": torch.zeros(len(paths), config.max_steps, dtype=torch.bool),
        "mask_padding": torch.ones(len(paths), config.max_steps, dtype=torch.bool),
        "envs": games_N,
    }
    frames_NTHW = torch.cat([context_NTHW, imagined_NTHW], 1)[:, :, None]
    checks = [
        compare_truncated("imagine/observations", 255 * frames_NTHW.numpy(), golden.arrays["imagine/observations"])
    ]
    checks += [
        compare_exact(f"imagine/{name}", value.numpy(), golden.arrays[f"imagine/{name}"])
        for name, value in ours.items()
        if f"imagine/{name}" in golden.arrays
    ]
    return recording.noted(checks, ALIGNED)


def _horizon(frames_BTHW: Tensor, batch: Batch, recorded_NTHW: Tensor) -> int:
    """How many steps were imagined: what precedes them are the batch's frames, give or take a grey level."""
    steps = frames_BTHW.shape[1]
    for horizon in range(1, steps):
        kept = frames_BTHW[batch.mask_BT[:, horizon:].all(1), horizon:].int()
        theirs = recorded_NTHW[:, : steps - horizon].int()
        if kept.shape == theirs.shape and (kept - theirs).abs().max() <= 1:
            return horizon
    raise ValueError("imagine/observations do not begin with the frames of batch/observations")
