"""Outputs of the networks in eval mode, with the recorded draws: states, pictures, heads, bonus, and what they lose.

Shapes: B segments, T steps, S variables of V classes, Z numbers of a feature.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.dreamer.film import SEEN, predicted, side_by_side
from models.dreamer.loss import Lost, bent, compared_by_bonus, discounts, world_loss
from models.dreamer.world_model import Observed, centred
from models.parity.dreamer.case import Case, Recorded, pictures, state
from models.parity.dreamer.learning import bonus_metrics, loss_entries, world_metrics
from models.rssm.chance import Chance, Gaussian, OneHot
from models.rssm.context import ContextDecoder, ContextStage
from models.rssm.model import State

SHOWN_CONTEXT = (16, 8)  # sides of places that are recorded whole; of 32, sums
AGAIN = 0.9  # times the features of the segments in reverse order: what the bonus is asked for next
CARRIED = 3  # steps that are observed after the last one


@torch.no_grad()
def eval_outputs(case: Case) -> dict[str, Tensor]:
    """Entries of stage eval, of the networks one by one and of the loss."""
    segments, world, config = case.segments, case.world, case.config
    found = {"preprocess/image_sum": centred(segments.frames_BTCRR).double().sum((2, 3, 4))}
    lost = world_loss(world, segments, case.draws("eval"))
    observed = lost.observed
    if segments.rewards_BT is not None:
        found["preprocess/reward"] = bent(segments.rewards_BT, config)
        found["preprocess/discount"] = discounts(segments, config)
    found |= {"encoder/embed": observed.embedded_BTE} | dict(_context(case, lost)) | dict(_actions(case, lost))
    kind = world.rssm.kind
    found |= dict(_states("rssm", kind, observed.posterior, observed.prior, case.draws("eval"), "prior"))
    found |= {"rssm/kl_value": lost.kls["kl"], "rssm/kl_loss": lost.terms["kl"]}
    found["rssm/feat"] = observed.posterior.feature
    if observed.first is not None:
        found |= dict(_states("af_rssm", kind, *observed.first, case.draws("eval"), "first_prior"))
        found["af_rssm/feat"] = observed.first[0].feature
        found |= {"af_rssm/kl_value": lost.kls["first_kl"], "af_rssm/kl_loss": lost.terms["first_kl"]}
    if not config.practises:
        found["rssm/post_entropy"] = kind.entropy(observed.posterior.stats)
        found["rssm/prior_entropy"] = kind.entropy(observed.prior)
    assert lost.drawn is not None
    found |= pictures("decoder/image", lost.drawn)
    for name, head in (("reward", world.reward), ("aux_reward", world.aux_reward)):
        if head is not None:
            found[f"heads/{name}/mean"] = head(observed.posterior.feature)
    if world.discount is not None:
        found["heads/discount/mean"] = world.discount(observed.posterior.feature).sigmoid()
    found |= dict(_glance(case, lost)) | dict(loss_entries(case, "eval", lost)) | world_metrics(case, "eval", lost)
    if lost.compared is not None:
        found |= dict(zip(("eval/rank/prior_kl", "eval/rank/latent_action_kl"), lost.compared, strict=True))
    case.restore()
    found |= dict(_bonus(case, lost))
    case.restore()
    return found


def _states(
    name: str, kind: Chance, posterior: State, prior: Tensor, draws: Recorded, what: str
) -> Iterator[tuple[str, Tensor]]:
    """Posterior and prior, which carry the same; of Gaussian ones samples too, which nothing reads of the prior."""
    sample = None
    if isinstance(kind, Gaussian):
        sample = torch.stack([kind.draw(each, draws, what) for each in prior.unbind(1)], dim=1)
    for each, found in (
        ("post", state(kind, posterior.stats, posterior.deter, posterior.sample)),
        ("prior", state(kind, prior, posterior.deter, sample)),
    ):
        yield from ((f"{name}/{each}/{entry}", value) for entry, value in found.items())


def _context(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """What the context shows; PreLAR's repository keeps an axis for its one frame."""
    for side, seen in lost.observed.context.items():
        shown = seen if case.names == "contextwm" else seen[:, None]
        if side in SHOWN_CONTEXT:
            yield f"encoder/shortcut_{side}", shown
        else:
            yield f"encoder/shortcut_{side}/sum_c_h_w", shown.double().sum((-3, -2, -1))


def _glance(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """What the decoder's first glance found, and the layer behind it, of two frames."""
    decoder = case.world.decoder
    if not isinstance(decoder, ContextDecoder):
        return
    features = lost.observed.posterior.feature.flatten(0, 1)
    kept: list[Tensor] = []
    stage = decoder.stages[0]
    assert isinstance(stage, ContextStage)
    handles = [
        stage.glance.attention.out_proj.register_forward_hook(lambda *call: kept.append(call[-1])),
        stage.layers[0].register_forward_hook(lambda *call: kept.append(call[-1])),
    ]
    decoder.draw(features, lost.observed.context, case.draws("eval"))
    for handle in handles:
        handle.remove()
    names = ("decoder/res0_attention_out_first2", "decoder/res0_layer0_first2")
    yield from ((name, each[:2]) for name, each in zip(names, kept, strict=True))


def _actions(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """Latent actions of a video, or encoded ones: plain, drawn from logits, or from means and stds as the network said
    these, before they are bent.
    """
    observed, world, segments = lost.observed, case.world, case.segments
    if observed.actions_BTA is None:
        return
    if world.action_encoder is not None and segments.actions_BTA is not None:
        said = _said(
            world.action_encoder.kind, world.action_encoder.numbers(segments.actions_BTA), observed.actions_BTA
        )
        yield from ((f"action_encoder/{entry}", value) for entry, value in said.items())
    if world.latent_action is not None:
        numbers = world.latent_action.numbers(centred(segments.frames_BTCRR))
        said = _said(world.latent_action.kind, numbers, observed.actions_BTA[:, 1:])
        yield from ((f"latent_action/{entry}", value) for entry, value in said.items())
        yield "latent_action/padded", observed.actions_BTA
        if lost.latent_kls is not None:
            yield "latent_action/kl_value", lost.latent_kls


def _said(kind: Chance | None, numbers: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    if kind is None:
        return {"deter": drawn}
    if isinstance(kind, OneHot):
        return {"logit": kind.read(numbers)}
    means, raw = numbers.chunk(2, dim=-1)
    return {"stoch": drawn, "mean": means, "std": raw}


def _bonus(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """Two calls, of which the second one overflows the queue."""
    bonus, observed, segments = case.world.bonus, lost.observed, case.segments
    if bonus is None or segments.rewards_BT is None:
        return
    first = compared_by_bonus(case.config, observed)
    rewards_BT = bent(segments.rewards_BT, case.config)
    for call, seen in enumerate((first, AGAIN * first.flip(0))):
        paid, prefix = bonus(seen), f"bonus/call{call}"
        rewards_BM = rewards_BT[:, : paid.bonus_BM.shape[1]]
        filled = bonus.filled.clone()
        yield f"{prefix}/reward_target", rewards_BM + paid.bonus_BM
        yield f"{prefix}/mag", bonus.norm.mag.clone()
        yield f"{prefix}/queue_filled", filled
        yield f"{prefix}/queue", bonus.queue[: int(filled)].clone()
        told = bonus_metrics(paid.distances_BM, paid.bonus_BM, rewards_BT, bonus.norm.mag)
        yield from ((f"{prefix}/metric/{name}", each) for name, each in told)


@torch.no_grad()
def video_outputs(case: Case) -> dict[str, Tensor]:
    """Stages carry, open_loop and mode of what was trained on videos."""
    segments, world = case.segments, case.world
    observed = world.observe(segments, case.draws("eval"))
    last = observed.posterior.at((slice(None), -1))
    again, actions = slice(0, CARRIED), observed.actions_BTA  # the first frames, after the first latent actions
    first_BT = torch.zeros(len(segments.first_BT), CARRIED, dtype=torch.bool)
    first_BT[1, 0] = True
    told = None if actions is None else actions[:, 1 : CARRIED + 1]
    draws = case.draws("carry")
    posterior, prior = world.rssm.observe(observed.embedded_BTE[:, again], told, first_BT, draws, last)
    kind, found = world.rssm.kind, {"carry/is_first": first_BT.float()}
    found |= dict(_states("carry", kind, posterior, prior, case.draws("carry"), "prior"))
    told = None if actions is None else actions[:, SEEN:]
    start = observed.posterior.at((slice(None), SEEN - 1))
    steps = observed.embedded_BTE.shape[1] - SEEN
    imagined = world.rssm.imagine(told, steps, start, case.draws("open_loop"))
    shown = state(kind, imagined.stats, imagined.deter, imagined.sample)
    found |= {f"open_loop/prior/{name}": each for name, each in shown.items()} | {"open_loop/feat": imagined.feature}
    found |= pictures("open_loop/image", world.draw(imagined.feature, observed.context, case.draws("open_loop")))
    return found | dict(_modes(case, observed))


def _modes(case: Case, observed: Observed) -> Iterator[tuple[str, Tensor]]:
    """Two steps whose likeliest samples are taken, of posteriors and priors."""
    world, first_BT, actions = case.world, case.segments.first_BT, observed.actions_BTA
    kind, found = world.rssm.kind, world.rssm.start(len(first_BT))
    for step in range(2):
        told = None if actions is None else actions[:, step]
        found = world.rssm.observe_step(found, told, observed.embedded_BTE[:, step], first_BT[:, step], None)
        prior = world.rssm.prior(found.deter)
        shown = {"post": state(kind, found.stats, found.deter, found.sample)}
        shown["prior"] = state(kind, prior, found.deter, kind.mode(prior))
        for each, entries in shown.items():
            yield from ((f"mode/{each}_{step}/{name}", value) for name, value in entries.items())
        if isinstance(kind, OneHot):
            yield f"mode/post_{step}/category", found.sample.unflatten(-1, found.stats.shape[-2:]).argmax(-1)


def film_outputs(case: Case) -> dict[str, Tensor]:
    """Stage open_loop of an agent that plays: a film of the truth, what it sees and then imagines, and the error."""
    segments, draws = case.segments, case.draws("open_loop")
    draws.skip("prior", SEEN)
    film = side_by_side(centred(segments.frames_BTCRR) + 0.5, predicted(case.world, segments, draws))
    small = film[..., ::4, ::4]
    if case.names == "contextwm":
        small = small.permute(0, 2, 3, 1)
    return {"open_loop/video_sum": film.double().sum(), "open_loop/video_every4": small}
