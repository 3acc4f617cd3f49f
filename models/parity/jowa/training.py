"""Losses, gradients and optimiser steps of every stage that a golden file of JOWA records.

A stage starts from the recorded weights and takes its steps on one batch. The second step shows what the first of
Adam's hides: clipping, and the update of the target head.
"""

import re
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.jowa.loss import world_action_loss, world_loss
from models.jowa.model import parameter_groups
from models.losses.frames import commitment, reconstruction_l1
from models.losses.segments import normalised
from models.parity.jowa.case import Case, new_model, new_tokenizer
from models.parity.jowa.config import Stage
from models.parity.learning import WORLD_TERMS, gradients, sum_and_norm

Loss = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""loss(0-based step) -> what to differentiate, and recorded terms by entry"""

OPTIMISERS: Mapping[str, type[Optimizer]] = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
SIDES = {"q_value_of_negative_samples": "q_logsumexp", "q_value_of_positive_samples": "q_taken"}
# Gradients that no file records: 0 in truth (a key's bias), or a sum of signs. The target head is not trained.
UNRECORDED = ("attn.key.bias", ".k.bias", "decoder.conv_out.bias")
TARGET = "head_q_target."
# Parameters of either network whose [sum, L2] is recorded after a step.
WATCHED = re.compile(
    r"encoder\.(conv_in|down\.0\.block\.0\.norm1|down\.1\.downsample\.conv|down\.1\.attn\.0\.q)\.weight"
    r"|encoder\.(mid\.attn_1\.proj_out|norm_out|conv_out)\.bias"
    r"|(pre_quant_conv|embedding)\.weight|post_quant_conv\.bias"
    r"|decoder\.(conv_in|up\.1\.upsample\.conv|up\.0\.block\.1\.conv2|norm_out)\.weight"
    r"|pos_emb\.weight|(task_emb|embedder)\.embedding_tables\.[01]\.weight"
    r"|transformer\.blocks\.0\.(ln1\.weight|ln2\.bias|attn\.key\.weight)"
    r"|transformer\.blocks\.1\.(attn\.proj\.weight|attn\.value\.bias|mlp\.0\.weight|mlp\.2\.bias)"
    r"|transformer\.ln_f\.weight|head_observations\.head_module\.(0\.weight|2\.bias)"
    r"|head_rewards\.head_module\.2\.weight|head_ends\.head_module\.2\.bias"
    r"|head_q\.head_module\.params\.\d|head_q_target\.head_module\.params\.[038]"
)


def stage_outputs(case: Case, stage: Stage) -> dict[str, Tensor]:
    """Entries of one stage: `loss/`, `info/`, `grad/`, `grad_norm/`, `after_step/` and `after_step2/`.

    Raises ValueError for an optimiser that does not belong to the objective.
    """
    of_tokenizer = stage.objective == "tokenizer"
    if stage.optimiser != ("Adam" if of_tokenizer else "AdamW"):
        raise ValueError(f"stage {stage.name} trains '{stage.objective}' by {stage.optimiser}")
    return dict(_tokenizer_stage(case, stage) if of_tokenizer else _model_stage(case, stage))


def _tokenizer_stage(case: Case, stage: Stage) -> Iterator[tuple[str, Tensor]]:
    tokenizer = new_tokenizer(case.golden, case.tokenizer.config)
    frames = case.golden.frames("batch/tokenizer/observations")

    def loss(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        tokenized = tokenizer(frames)
        committed = commitment(tokenized.encoded.z, tokenized.encoded.z_quantized, case.commitment_beta)
        reconstruction = reconstruction_l1(frames, tokenized.frames)
        terms = {"commitment_loss": committed, "reconstruction_loss": reconstruction}
        return committed + reconstruction, {f"loss/{stage.name}/{term}": value for term, value in terms.items()}

    groups = [{"params": list(tokenizer.parameters()), "weight_decay": stage.weight_decay}]
    return _recorded(stage, tokenizer, loss, groups, lambda steps: None)


def _model_stage(case: Case, stage: Stage) -> Iterator[tuple[str, Tensor]]:
    model = new_model(case.golden, stage.model)
    batch = case.batch_with_imagined() if stage.imagined else case.batch()
    mixtures_SQ = case.golden.tensor(f"draws/{stage.name}/rand") if stage.model.random_mixture else None

    def loss(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if stage.objective == "world":
            losses = world_loss(model, batch)
        else:
            weights_Q = None if mixtures_SQ is None else normalised(mixtures_SQ[step])
            losses = world_action_loss(model, batch, case.legal_GA, weights_Q)
        return losses.total, _terms(stage, losses.terms)

    def after(steps: int) -> None:
        if steps % stage.target_every == 0:
            model.update_target()

    # The original keeps its tables of task embeddings where it does not use them.
    own = model.state_dict()
    unused = {name: table for name, table in case.golden.tensors("weights/jowa/").items() if name not in own}
    return _recorded(stage, model, loss, parameter_groups(model, stage.weight_decay), after, unused)


def _terms(stage: Stage, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Terms as the original logs them, after their weight in the total; the penalty's two sides before it."""
    world_weight = 1.0 if stage.objective == "world" else stage.model.world_weight
    found = {f"loss/{stage.name}/{name}": world_weight * terms[ours] for name, (ours, _) in WORLD_TERMS.items()}
    if "td" in terms:
        found[f"loss/{stage.name}/loss_td_error"] = terms["td"]
    if "cql" in terms:
        found[f"loss/{stage.name}/loss_cql_penalty"] = stage.model.cql_weight * terms["cql"]
        found |= {f"info/{stage.name}/{name}": terms[ours] for name, ours in SIDES.items()}
    return found


def _recorded(
    stage: Stage,
    network: nn.Module,
    loss: Loss,
    groups: list[dict],
    after: Callable[[int], None],
    unused: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """The entries of a stage while it takes its steps; `after(steps so far)` follows each of them.

    A stage without steps has a loss and gradients. `unused`: parameters of the original that the network lacks.
    """
    network.train()
    parameters = {**dict(network.named_parameters()), **(unused or {})}
    kind = OPTIMISERS[stage.optimiser]
    optimiser = kind(groups, lr=stage.lr, betas=stage.betas, eps=stage.eps)  # type: ignore[call-arg]
    for step in range(max(stage.steps, 1)):
        total, terms = loss(step)
        network.zero_grad(set_to_none=True)
        total.backward()
        yield f"loss/{stage.name}{'' if step == 0 else f'_step{step + 1}'}/total", total.detach()
        if step == 0:
            yield from terms.items()
            yield from _gradients(stage, parameters)
        norm = nn.utils.clip_grad_norm_(network.parameters(), stage.clip)
        if step == 0:
            yield f"grad_norm/{stage.name}", norm
        if stage.steps:
            optimiser.step()
            after(step + 1)
            yield from _weights(f"after_step{'' if step == 0 else step + 1}/{stage.name}", parameters)


def _gradients(stage: Stage, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The norm of every recorded parameter's gradient."""
    recorded = {
        name: parameter
        for name, parameter in parameters.items()
        if not name.endswith(UNRECORDED) and not name.startswith(TARGET)
    }
    return gradients(f"grad/{stage.name}", recorded)


def _weights(prefix: str, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """[sum, L2] in float64 of the watched parameters."""
    for name, parameter in parameters.items():
        if WATCHED.fullmatch(name):
            yield f"{prefix}/{name}", sum_and_norm(parameter)
