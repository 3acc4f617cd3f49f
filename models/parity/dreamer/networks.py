"""Outputs of the networks in eval mode, with the recorded draws: states, pictures, heads, bonus, and what they lose.

Shapes: B segments, T steps, S variables of V classes, Z numbers of a feature.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.dreamer.film import SEEN, predicted, side_by_side
from models.dreamer.loss import Lost, bent, discounts, world_loss
from models.dreamer.world_model import centred
from models.parity.dreamer.case import Case, pictures
from models.parity.dreamer.learning import bonus_metrics, loss_entries, world_metrics
from models.rssm.chance import Chance
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
    found |= dict(_states("rssm", observed.posterior, observed.prior))
    found |= {"rssm/kl_value": lost.kls["kl"], "rssm/kl_loss": lost.terms["kl"]}
    found["rssm/feat"] = observed.posterior.feature
    if observed.first is not None:
        found |= dict(_states("af_rssm", *observed.first)) | {"af_rssm/feat": observed.first[0].feature}
        found |= {"af_rssm/kl_value": lost.kls["first_kl"], "af_rssm/kl_loss": lost.terms["first_kl"]}
    if not config.practises:
        kind = world.rssm.kind
        found["rssm/post_entropy"] = kind.entropy(observed.posterior.stats)
        found["rssm/prior_entropy"] = kind.entropy(observed.prior)
    assert lost.drawn is not None
    found |= pictures("decoder/image", lost.drawn)
    for name, head in (("reward", world.reward), ("aux_reward", world.aux_reward)):
        if head is not None:
            found[f"heads/{name}/mean"] = head(observed.posterior.feature)
    found |= dict(_glance(case, lost)) | dict(loss_entries(case, "eval", lost)) | world_metrics(case, "eval", lost)
    if lost.compared is not None:
        found |= dict(zip(("eval/rank/prior_kl", "eval/rank/latent_action_kl"), lost.compared, strict=True))
    case.restore()
    found |= dict(_bonus(case, lost))
    case.restore()
    return found


def _states(name: str, posterior: State, prior: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Posterior and prior, which carry the same."""
    for each, stats in (("post", posterior.stats), ("prior", prior)):
        yield from _state(f"{name}/{each}", stats, posterior.deter)


def _state(name: str, stats: Tensor, deter: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}/deter", deter
    yield f"{name}/logit", stats


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
    """Latent actions of a video, or encoded ones."""
    observed, world, segments = lost.observed, case.world, case.segments
    if case.config.reads == "encoded" and observed.actions_BTA is not None:
        yield "action_encoder/deter", observed.actions_BTA
    if world.latent_action is None or observed.actions_BTA is None:
        return
    numbers = world.latent_action.numbers(centred(segments.frames_BTCRR))
    means, raw = numbers.chunk(2, dim=-1)
    yield "latent_action/padded", observed.actions_BTA
    yield "latent_action/stoch", observed.actions_BTA[:, 1:]
    yield "latent_action/mean", means
    yield "latent_action/std", raw  # before it is bent, as the original keeps it
    if lost.latent_kls is not None:
        yield "latent_action/kl_value", lost.latent_kls


def _bonus(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """Two calls, of which the second one overflows the queue."""
    bonus, observed, segments = case.world.bonus, lost.observed, case.segments
    if bonus is None or segments.rewards_BT is None:
        return
    first = observed.embedded_BTE if observed.first is None else observed.first[0].feature
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
    found = {"carry/is_first": first_BT.float()} | dict(_states("carry", posterior, prior))
    told = None if actions is None else actions[:, SEEN:]
    start = observed.posterior.at((slice(None), SEEN - 1))
    steps = observed.embedded_BTE.shape[1] - SEEN
    imagined = world.rssm.imagine(told, steps, start, case.draws("open_loop"))
    found |= dict(_state("open_loop/prior", imagined.stats, imagined.deter)) | {"open_loop/feat": imagined.feature}
    found |= pictures("open_loop/image", world.draw(imagined.feature, {}, case.draws("open_loop")))
    state = world.rssm.start(len(first_BT))
    for step in range(2):
        told = None if actions is None else actions[:, step]
        state = world.rssm.observe_step(state, told, observed.embedded_BTE[:, step], segments.first_BT[:, step], None)
        found |= dict(_state(f"mode/post_{step}", state.stats, state.deter))
        found |= dict(_state(f"mode/prior_{step}", world.rssm.prior(state.deter), state.deter))
        found[f"mode/post_{step}/category"] = _category(world.rssm.kind, state)
    return found


def _category(kind: Chance, state: State) -> Tensor:
    """The classes of a sample."""
    return state.sample.unflatten(-1, state.stats.shape[-2:]).argmax(-1)


def film_outputs(case: Case) -> dict[str, Tensor]:
    """Stage open_loop of an agent that plays: a film of the truth, what it sees and then imagines, and the error."""
    segments, draws = case.segments, case.draws("open_loop")
    draws.skip("prior", SEEN)
    film = side_by_side(centred(segments.frames_BTCRR) + 0.5, predicted(case.world, segments, draws))
    small = film[..., ::4, ::4]
    if case.names == "contextwm":
        small = small.permute(0, 2, 3, 1)
    return {"open_loop/video_sum": film.double().sum(), "open_loop/video_every4": small}
