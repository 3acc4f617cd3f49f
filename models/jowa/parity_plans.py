"""Checks of planning and imagination against a golden file (entries `plan/GAME/STEPS/KIND` and `imagine/*`).

A plan must come out of the original's order of calls (`recorded_plans.py`) as it was recorded, and the planner that
plays must choose as that order does on the same model without dropout. The original's tree search has faults which the
recordings show; they are repeated for the first condition and left out for the second.
"""

import re
from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Context
from models.jowa import recorded_plans
from models.jowa.config import JowaConfig
from models.jowa.golden import Golden
from models.jowa.loss import sequence
from models.jowa.recorded_plans import Original, beam_search, tree_search
from models.jowa.recording import Recording
from models.jowa.world import JowaWorld
from models.parity import Check, compare_exact, compare_truncated
from models.planning.beam import Beam, Path, search
from models.planning.greedy import Greedy
from models.planning.mcts import Mcts
from models.tokenizers.vq import Tokenizer

TREE = "with the faults of the original's tree search (models/jowa/recorded_plans.py)"
ALIGNED = "in the original's arrangement, where actions and rewards stand one step too early against the frames"
UNLIKE = "the recording agrees, but without dropout models/planning does not choose as the original's order of calls"
FRAMES = "imagine/observations"
IMAGINED_WIDTHS = (2, 1, 3, 4)  # of the beam, the original's first: a file does not name it


def check_plan(recording: Recording, entry: str) -> list[Check]:
    """The action of one recorded plan; nothing where its kind or game is unknown."""
    golden, config = recording.golden, recording.clean.config
    _, game, _, kind = entry.split("/")
    planner = _planner(kind)
    if planner is None or planner.horizon >= config.max_steps or game not in golden.game_ids:
        return []
    tokens_NL = _newest(golden.tensor(entry.removesuffix(kind) + "context"), planner.horizon, config)
    games_N = torch.full((len(tokens_NL),), golden.game_ids[game])
    legal_NA = golden.legal_GA[games_N]
    recorded, clean = (Original(model, games_N, legal_NA) for model in (recording.model, recording.clean))
    ours_N = _plan(recorded, tokens_NL, planner, faults=True)
    check = compare_exact(entry, ours_N.numpy(), golden.arrays[entry])
    if check.ok:
        played_N = planner.plan(
            JowaWorld(recording.clean), _context(tokens_NL, games_N, config), legal_NA, config.gamma
        )
        alike = compare_exact(entry, played_N.numpy(), _plan(clean, tokens_NL, planner, faults=False).numpy())
        if not alike.ok:
            return [replace(alike, note=UNLIKE)]
    return recording.noted([check], TREE if isinstance(planner, Mcts) else "")


def _planner(kind: str) -> Greedy | Beam | Mcts | None:
    """The planner that an entry's name describes; None for one that is unknown or impossible."""
    try:
        return _named(kind)
    except ValueError:
        return None


def _named(kind: str) -> Greedy | Beam | Mcts | None:
    if kind == "greedy":
        return Greedy()
    if match := re.fullmatch(r"beam_w(\d+)_h(\d+)", kind):
        return Beam(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"mcts_n(\d+)_h(\d+)_mean([01])_count([01])_t(\d+\.?\d*)", kind):
        return Mcts(
            simulations=int(match[1]),
            horizon=int(match[2]),
            leaf="mean" if match[3] == "1" else "max",
            choice="visits" if match[4] == "1" else "value",
            temperature=float(match[5]),
        )
    return None


def _plan(original: Original, tokens_NL: Tensor, planner: Greedy | Beam | Mcts, faults: bool) -> Tensor:
    """First actions (N,) in the original's order of calls; `faults` are those of its tree search."""
    if isinstance(planner, Greedy):
        return original.reset(tokens_NL)[0].argmax(1)
    if isinstance(planner, Mcts):
        return torch.tensor([tree_search(original, tokens_NL, planner, faults)])
    # It searches no wider than it has legal actions.
    expand = min(planner.width, int(original.legal_NA[0].sum()))
    paths = beam_search(original, tokens_NL, planner.width, expand, planner.horizon)
    return torch.tensor([path.actions[0] for path in paths])


def _newest(tokens_NL: Tensor, horizon: int, config: JowaConfig) -> Tensor:
    """The newest steps that leave room for the horizon; the last has no action yet."""
    return tokens_NL[:, -((config.max_steps - horizon) * config.tokens_per_step - 1) :]


def _context(tokens_NL: Tensor, games_N: Tensor, config: JowaConfig) -> Context:
    # A zero action completes the last step for the split.
    steps_NCK = torch.nn.functional.pad(tokens_NL, (0, 1)).unflatten(1, (-1, config.tokens_per_step))
    return Context(steps_NCK[:, :, :-1], steps_NCK[:, :-1, -1], games_N)


def check_imagined(recording: Recording, tokenizer: Tokenizer) -> list[Check]:
    """The batch's segments whose last steps are real, gone on with in the model.

    With the first width under which all entries agree, else with that under which fewest fail.
    """
    batch = recording.golden.batch()
    horizon = _horizon(recording.golden, batch)
    before, tried = recording.state(), []
    for width in IMAGINED_WIDTHS:
        recording.rewind(before)
        checks = _check_imagined(recording, tokenizer, batch, Beam(width, horizon))
        failed = sum(not one.ok for one in checks)
        tried.append((failed, checks, recording.state()))
        if not failed:
            break
    _, checks, after = min(tried, key=lambda attempt: attempt[0])
    recording.rewind(after)
    return checks


def _check_imagined(recording: Recording, tokenizer: Tokenizer, batch: Batch, beam: Beam) -> list[Check]:
    golden, config, horizon = recording.golden, recording.clean.config, beam.horizon
    rows = batch.mask_BT[:, horizon:].all(1)
    tokens_NL = sequence(batch)[rows, horizon * config.tokens_per_step : -1]
    games_N = batch.games_B[rows]
    original = Original(recording.model, games_N, golden.legal_GA[games_N])
    paths = beam_search(original, tokens_NL, beam.width, beam.width, horizon)
    imagined_NTHW = tokenizer.decode_tokens(torch.stack([torch.stack(path.frames) for path in paths])).squeeze(2)
    context_NTHW = golden.tensor("batch/observations")[rows, horizon:].float() / 255
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
    checks = [compare_truncated(FRAMES, 255 * frames_NTHW.numpy(), golden.arrays[FRAMES])]
    checks += [
        compare_exact(f"imagine/{name}", value.numpy(), golden.arrays[f"imagine/{name}"])
        for name, value in ours.items()
        if f"imagine/{name}" in golden.arrays
    ]
    clean = Original(recording.clean, games_N, original.legal_NA)
    reference = beam_search(clean, tokens_NL, beam.width, beam.width, horizon)
    context = _context(tokens_NL, games_N, config)
    imagined = search(JowaWorld(recording.clean), context, original.legal_NA, beam, config.gamma)
    if not _alike(imagined, reference):
        return [replace(check, ok=False, note=UNLIKE) for check in checks]
    return recording.noted(checks, ALIGNED)


def _alike(imagined: Path, reference: list[recorded_plans.Path]) -> bool:
    """Whether the planner that plays imagines the same actions, rewards and frames."""
    return all(
        ours.tolist() == theirs
        for ours, theirs in (
            (imagined.actions_NH, [path.actions for path in reference]),
            (imagined.rewards_NH, [path.rewards for path in reference]),
            (imagined.tokens_NHK, [[frame.tolist() for frame in path.frames] for path in reference]),
        )
    )


def _horizon(golden: Golden, batch: Batch) -> int:
    """How many steps were imagined: what precedes them are the batch's frames, give or take a grey level.

    Raises ValueError where no number of steps gives as many segments as were recorded.
    """
    frames_BTHW, recorded_NTHW = golden.tensor("batch/observations").int(), golden.tensor(FRAMES).squeeze(2).int()
    steps = frames_BTHW.shape[1]
    alike = {}
    for horizon in range(1, steps):
        kept, theirs = frames_BTHW[batch.mask_BT[:, horizon:].all(1), horizon:], recorded_NTHW[:, : steps - horizon]
        if kept.shape == theirs.shape:
            alike[horizon] = float(((kept - theirs).abs() <= 1).float().mean())
    if not alike:
        raise ValueError(f"{FRAMES} {tuple(recorded_NTHW.shape)} do not continue the segments of batch/observations")
    return max(alike, key=lambda horizon: (alike[horizon], -horizon))
