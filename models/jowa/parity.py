"""Checks JOWA against a golden file of the original: entries `forward/*`, `loss/*`, `plan/*` and `imagine/*`.

Numbers agree to 1e-4 relative, actions exactly, in float32 on the CPU. Run: `worldline parity FILE.npz`; a file takes
about 4 s. Entries are worked through in the file's order, because a recording with dropout in its Q heads
(`recorded.py`) goes on drawing from one entry to the next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from models.jowa.golden import WEIGHTS, Golden, read_model
from models.jowa.parity_losses import check_stage
from models.jowa.parity_plans import check_imagined, check_plan
from models.jowa.recording import Recording
from models.parity import Check, compare, uncovered
from models.tokenizers.parity import read_tokenizer

SECTIONS = ("forward/", "loss/", "plan/", "imagine/")
# What is read and not compared.
INPUTS = (
    WEIGHTS + r".+|batch/(observations|actions|rewards|ends|mask_padding|games)"
    r"|forward/(tokens|games)|plan/[^/]+/[^/]+/context"
)


def check(
    arrays: Mapping[str, np.ndarray], game_names: Sequence[str], legal_actions: Callable[[str], Sequence[int]]
) -> list[Check]:
    """Compare every entry of `arrays`, a whole golden file, that belongs to JOWA, in the file's order.

    `game_names` lists all games by id, `legal_actions(name)` gives ids of the 18-action set. An entry that nothing
    here reproduces comes back uncovered, with the reason in its note. Raises ValueError or KeyError where the file has
    no JOWA's weights or lacks an input.
    """
    recording = Recording(_read(arrays, game_names, legal_actions))
    checks = [one for section in _sections(arrays) for one in _check(recording, section)]
    return checks + uncovered([name for name in arrays if name.startswith(SECTIONS)], checks, INPUTS)


def _read(
    arrays: Mapping[str, np.ndarray], game_names: Sequence[str], legal_actions: Callable[[str], Sequence[int]]
) -> Golden:
    model = read_model(arrays)
    ids = {name: number for number, name in enumerate(game_names)}
    played = {name.split("/")[1] for name in arrays if name.startswith("plan/")}
    played |= {game_names[number] for number in np.unique(arrays.get("batch/games", np.zeros(0, np.int64)))}
    legal_GA = torch.zeros(model.config.num_games, model.config.num_actions, dtype=torch.bool)
    for name in played & ids.keys():
        legal_GA[ids[name], list(legal_actions(name))] = True
    return Golden(arrays, model, legal_GA, ids)


def _sections(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Groups of entries that one computation gives, in the file's order; a plan is a group of its own."""
    groups = []
    for name in arrays:
        parts = name.split("/")
        if parts[0] == "plan" and len(parts) == 4 and parts[-1] != "context":
            groups.append(name)
        elif parts[0] == "loss":
            groups.append("/".join(parts[:2]) + "/")
        elif parts[0] in ("forward", "imagine"):
            groups.append(parts[0] + "/")
    return list(dict.fromkeys(groups))


def _check(recording: Recording, section: str) -> list[Check]:
    kind = section.split("/")[0]
    if kind == "forward":
        return _check_forward(recording)
    if kind == "loss":
        return check_stage(recording, section)
    if kind == "plan":
        return check_plan(recording, section)
    return check_imagined(recording, read_tokenizer(recording.golden.arrays))


def _check_forward(recording: Recording) -> list[Check]:
    checks = _outputs(recording)
    if all(one.ok for one in checks if "logits_q" in one.name):
        return checks
    recording.listen()
    return [replace(one, note=recording.note) if "logits_q" in one.name else one for one in _outputs(recording)]


@torch.no_grad()
def _outputs(recording: Recording) -> list[Check]:
    golden = recording.golden
    outputs = recording.model(golden.tensor("forward/tokens"), golden.tensor("forward/games"))
    ours = {f"forward/logits_{head}": logits for head, logits in outputs.logits.items()}
    for head in ("forward/logits_q", "forward/logits_q_target"):
        ours[head] = ours[head].flatten(-2)
    ours["forward/hidden"] = outputs.hidden_BLD
    return [compare(name, value.numpy(), golden.arrays[name]) for name, value in ours.items() if name in golden.arrays]
