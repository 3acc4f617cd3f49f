"""Checks JOWA against a golden file of the original: entries `forward/*` and `loss/*`, greedy and beam of `plan/*`.

Numbers agree to 1e-4 relative, actions exactly, in float32 on the CPU; a file takes about half a second.
The recordings have dropout in their Q heads (see `recorded.py`). Where a file shows it, the same units are dropped here
for forward and loss entries. For plans the draws are not known: greedy actions are compared without dropout, beam
searches, whose many evaluations do depend on it, only for a file that was recorded without.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.api import Batch, Context, Losses
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.names import load_released, released_weights
from models.jowa.objective import sequence, world_action_loss, world_loss
from models.jowa.recorded import replay_dropout
from models.jowa.world import JowaWorld, context_values
from models.parity import Check, compare, compare_exact
from models.planning.beam import Beam, masked_values, plan

WEIGHTS = "weights/jowa/"
SECTIONS = ("forward/", "loss/", "plan/", "imagine/")
TERMS = {"loss_obs": "observations", "loss_rewards": "rewards", "loss_ends": "ends"}
Q_TERMS = {"info/q_value_of_negative_samples": "q_logsumexp", "info/q_value_of_positive_samples": "q_taken"}
NOISY = ("forward/logits_q", "loss/stage2/")
REPLAYED = "with the recording's own dropout in the Q heads (models/jowa/recorded.py)"


def config_from_weights(shapes: Mapping[str, tuple[int, ...]]) -> JowaConfig:
    """The configuration that gives a state_dict of these names and shapes, as `released_weights` names them.

    What leaves no trace keeps its default: steps of 36 tokens, atoms, dropout, weights of losses. Heads leave none
    either: the released models have one for 64 of width, the golden files' tiny ones 2.
    Raises ValueError naming a weight that is missing.
    """
    try:
        vocab_size, width = shapes["embedder.embedding_tables.1.weight"]
        num_actions = shapes["embedder.embedding_tables.0.weight"][0]
        num_q, q_hidden, _ = shapes["head_q.head_module.params.0"]
        task_embedding = "task_emb.embedding_tables.0.weight" in shapes
        per_step = JowaConfig.tokens_per_frame + 1
        return JowaConfig(
            vocab_size=vocab_size,
            max_steps=shapes["pos_emb.weight"][0] // per_step,
            layers=len({name.split(".")[2] for name in shapes if name.startswith("transformer.blocks.")}),
            heads=max(2, width // 64),
            width=width,
            num_q=num_q,
            q_hidden=q_hidden,
            num_actions=num_actions,
            num_games=shapes["task_emb.embedding_tables.0.weight"][0] if task_embedding else JowaConfig.num_games,
            task_embedding=task_embedding,
            atoms=shapes["head_q.head_module.params.9"][1] // num_actions,
        )
    except KeyError as missing:
        raise ValueError(f"These are not a JOWA's weights: {missing} is missing") from missing


def check(
    arrays: Mapping[str, np.ndarray],
    legal_actions: Callable[[str], Sequence[int]] | None = None,
    game_id: Callable[[str], int] | None = None,
) -> list[Check]:
    """Compare every entry of `arrays`, a whole golden file, that JOWA reproduces; the others are not covered.

    Stage 2 and planning need to know games: `legal_actions(name)` gives ids of the 18-action set and `game_id(name)`
    the id. Without them those entries are not covered. Raises ValueError where the file has no JOWA's weights, or
    where only one of the two functions is given.
    """
    if (legal_actions is None) != (game_id is None):
        raise ValueError("legal_actions and game_id belong together: give both or neither")
    model = _model(arrays)
    checks: list[Check] = []
    noisy = not all(one.ok for one in _check_forward(model, arrays))
    legal_GA = torch.zeros(model.config.num_games, model.config.num_actions, dtype=torch.bool)
    if legal_actions is not None and game_id is not None:
        games = {name: game_id(name) for name in sorted({e.split("/")[1] for e in arrays if e.startswith("plan/")})}
        for name, number in games.items():
            legal_GA[number, list(legal_actions(name))] = True
        checks += _check_plans(model, arrays, games, legal_GA, with_beam=not noisy)
    if noisy:
        replay_dropout(model)
    checks += _check_forward(model, arrays)
    checks += _check_stage(model, arrays, "loss/stage1/", None)
    if bool(legal_GA[_tensor(arrays["batch/games"])].any(1).all()):
        checks += _check_stage(model, arrays, "loss/stage2/", legal_GA)
    if noisy:
        checks = [replace(one, note=REPLAYED) if one.name.startswith(NOISY) else one for one in checks]
    known = {one.name for one in checks}
    strangers = [name for name in arrays if name.startswith(SECTIONS) and name not in known and not _is_input(name)]
    return checks + [Check(name, float("nan"), ok=False, covered=False) for name in strangers]


def _is_input(name: str) -> bool:
    return name in ("forward/tokens", "forward/games") or name.endswith("/context")


def _model(arrays: Mapping[str, np.ndarray]) -> Jowa:
    """The recorded weights in eval mode."""
    weights = released_weights(
        {name.removeprefix(WEIGHTS): _tensor(arrays[name]) for name in arrays if name.startswith(WEIGHTS)}
    )
    model = Jowa(config_from_weights({name: tuple(weight.shape) for name, weight in weights.items()})).eval()
    load_released(model, weights)
    return model


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


@torch.no_grad()
def _check_forward(model: Jowa, arrays: Mapping[str, np.ndarray]) -> list[Check]:
    outputs = model(_tensor(arrays["forward/tokens"]), _tensor(arrays["forward/games"]))
    ours = {f"forward/logits_{head}": logits for head, logits in outputs.logits.items()}
    for head in ("forward/logits_q", "forward/logits_q_target"):
        ours[head] = ours[head].flatten(-2)
    ours["forward/hidden"] = outputs.hidden_BLD
    return [compare(name, value.numpy(), arrays[name]) for name, value in ours.items() if name in arrays]


def _golden_batch(arrays: Mapping[str, np.ndarray], config: JowaConfig) -> Batch:
    """The recorded batch. Its tokens are those of `forward/tokens`, which the original encoded from its frames."""
    steps_BTK = _tensor(arrays["forward/tokens"]).unflatten(1, (-1, config.tokens_per_step))
    return Batch(
        tokens_BTK=steps_BTK[:, :, :-1],
        actions_BT=_tensor(arrays["batch/actions"]),
        rewards_BT=_tensor(arrays["batch/rewards"]),
        ends_BT=_tensor(arrays["batch/ends"]),
        mask_BT=_tensor(arrays["batch/mask_padding"]),
        games_B=_tensor(arrays["batch/games"]),
    )


def _check_stage(model: Jowa, arrays: Mapping[str, np.ndarray], prefix: str, legal_GA: Tensor | None) -> list[Check]:
    """Total, terms and gradient norms of one objective: stage 2 where legal actions are given, else stage 1."""
    config, batch = model.config, _golden_batch(arrays, model.config)
    model.zero_grad(set_to_none=True)
    if legal_GA is None:  # the original evaluates the Q heads in stage 1 too, which matters to dropout's draws
        model(sequence(batch), batch.games_B, heads=("q", "q_target"))
    losses: Losses = world_loss(model, batch) if legal_GA is None else world_action_loss(model, batch, legal_GA)
    losses.total.backward()
    # The original records its terms after weighting.
    world_weight = 1.0 if legal_GA is None else config.world_weight
    ours = {golden: world_weight * losses.terms[term] for golden, term in TERMS.items()}
    ours["total"] = losses.total.detach()
    ours["info/reward_real"] = batch.rewards_BT.mean()
    ours["info/done_real"] = batch.ends_BT.float().mean()
    ours["info/alpha"] = torch.tensor(config.cql_weight)
    if legal_GA is not None:
        ours["loss_td_error"] = losses.terms["td"]
        ours["loss_cql_penalty"] = config.cql_weight * losses.terms["cql"]
        ours |= {golden: losses.terms[term] for golden, term in Q_TERMS.items()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    ours["grad_norm"] = torch.nn.utils.get_total_norm(gradients.values())
    ours |= {f"grad/{name}": gradient.norm() for name, gradient in gradients.items()}
    return [
        compare(prefix + key, value.numpy(), arrays[prefix + key])
        for key, value in ours.items()
        if prefix + key in arrays
    ]


def _check_plans(
    model: Jowa, arrays: Mapping[str, np.ndarray], games: Mapping[str, int], legal_GA: Tensor, with_beam: bool
) -> list[Check]:
    """First actions of greedy play and of each recorded beam search."""
    checks = []
    for entry in arrays:
        if not (match := re.fullmatch(r"plan/(\w+)/\d+/(greedy|beam_w(\d+)_h(\d+))", entry)):
            continue
        game, kind, width, horizon = match.groups()
        if kind != "greedy" and not with_beam:
            continue
        recorded = _tensor(arrays[entry.removesuffix(kind) + "context"])
        # The context ends at an observation; a zero action completes its last step for the split.
        steps_NCK = torch.nn.functional.pad(recorded, (0, 1)).unflatten(1, (-1, model.config.tokens_per_step))
        games_N = torch.full((len(recorded),), games[game])
        context = Context(steps_NCK[:, :, :-1], steps_NCK[:, :-1, -1], games_N)
        legal_NA = legal_GA[games_N]
        if kind == "greedy":
            actions_N = masked_values(context_values(model, context), legal_NA).argmax(1)
        else:
            beam = Beam(int(width), int(horizon))
            room = context.last(model.config.max_steps - beam.horizon)
            actions_N = plan(JowaWorld(model), room, legal_NA, beam, model.config.gamma)
        checks.append(compare_exact(entry, actions_N.numpy(), arrays[entry]))
    return checks
