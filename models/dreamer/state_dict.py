"""Weights of the Dreamer family under the names of the originals' checkpoints, there and back, strictly and alone.

Two sets of names: those of PreLAR's repository, which has DreamerV2, APV, ContextWM, PreLAR and the naive baseline, and
those of ContextWM's own, of which a file of ContextWM's fine-tuning was seen; names of encoders without a context are
by analogy. A whole agent is one flat state_dict (`variables.pt`); after pre-training each network also has a file of
its own, whose names begin at the network. What we count besides (rows of the bonus's queue, updates of the target
critic) is neither written nor found there, and begins at 0, as in the originals. Source: their code's names.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from models.blocks.weights import copied_weights, load_exactly
from models.dreamer.actor_critic import ActorCritic
from models.dreamer.config import DreamerConfig
from models.dreamer.world_model import WorldModel

Names = Literal["prelar", "contextwm"]
COUNTED = ("bonus.filled", "updates")  # ours alone
WORLD = {
    "first": "wm.af_rssm",
    "rssm": "wm.rssm",
    "encoder": "wm.encoder",
    "decoder": "wm.heads.decoder",
    "reward": "wm.heads.reward",
    "aux_reward": "wm.heads.aux_reward",
    "discount": "wm.heads.discount",
    "latent_action": "wm.va_encoder",
    "action_encoder": "wm.action_encoder",
    "bonus": "wm.intr_bonus",
}
BEHAVIOUR = {
    "actor": "_task_behavior.actor",
    "critic": "_task_behavior.critic",
    "target": "_task_behavior._target_critic",
    "reward_norm": "_task_behavior.rewnorm",
}
PARTS = WORLD | BEHAVIOUR
ALIASES = (("_task_behavior.", "_expl_behavior."),)
RSSMS = (("wm.rssm.", "wm.af_rssm."),)  # of one RSSM, where two would be stacked otherwise

Rules = tuple[tuple[str, str], ...]  # a pattern of our names within a part, and theirs
LAYER: Rules = (
    (r"\.layers\.(\d+)\.conv1\.", r".stack.\1.res_block.0."),
    (r"\.layers\.(\d+)\.norm1\.", r".stack.\1.res_block.1."),
    (r"\.layers\.(\d+)\.conv2\.", r".stack.\1.res_block.3."),
    (r"\.layers\.(\d+)\.norm2\.", r".stack.\1.res_block.4."),
    (r"\.layers\.(\d+)\.past\.", r".stack.\1.identity.0."),
    (r"\.layers\.(\d+)\.past_norm\.", r".stack.\1.identity.1."),
    (r"\.glance\.attention\.", r".stack.0.cross_attention.att."),
    (r"\.glance\.norm\.", r".stack.0.norm_cross_att."),
    (r"\.glance\.drawn_at$", r".stack.0.q_pos_emb"),
    (r"\.glance\.context_at$", r".stack.0.kv_pos_emb"),
)
BONUS: Rules = ((r"^projection$", "random_projection_matrix"), (r"^norm\.", "intr_rewnorm."))
CELL: Rules = ((r"^cell\.layer\.", "_cell._layer."), (r"^cell\.norm\.", "_cell._norm."))
PRELAR: dict[str, Rules] = {
    "rssm": (
        *CELL,
        (r"^inward\.", "_img_in.0."),
        (r"^prior_hidden\.", "_ensemble_out_layers.0.img_out_0."),
        (r"^prior_head\.", "_ensemble_out_layers.0.img_out_head_0."),
        (r"^post_hidden\.", "_obs_out.0."),
        (r"^post_head\.", "_obs_out.obs_out_head."),
    ),
    "encoder": (
        (r"^convs\.(\d+)\.", r"_cnn_nn.conv\1."),
        (r"^context\.convin\.", "_deco_net.convin.0."),
        (r"^context\.stages\.(\d+)\.", r"_deco_net.res\1."),
        (r"^(?:frames\.)?convin\.", "_cnn_net.convin."),
        (r"^(?:frames\.)?stages\.(\d+)\.", r"_cnn_net.res\1."),
        *LAYER,
    ),
    "decoder": (
        (r"^convs\.(\d+)\.", r"_cnn_nn.conv\1."),
        (r"^inward\.", "convin.0."),
        (r"^stages\.(\d+)\.", r"_cnn_nn.res\1."),
        (r"^outward\.", "convout."),
        *LAYER,
    ),
    "latent_action": (
        (r"^trunk\.convin\.", "va_encoder._cnn_net.convin."),
        (r"^trunk\.stages\.(\d+)\.", r"va_encoder._cnn_net.res\1."),
        (r"^hidden\.", "action_in.0."),
        (r"^out\.", "action_in.2."),
        *LAYER,
    ),
    "action_encoder": ((r"^hidden\.", "_encoder.0."), (r"^out\.", "_encoder.2.")),
    "head": (
        (r"^layers\.(\d+)\.", r"_mlp_nn.dense_\1."),
        (r"^out\.", "_out_dist._out_nn."),
        (r"^std\.", "_out_dist._std_nn."),
    ),
    "bonus": BONUS,
    "reward_norm": (),
}
CONTEXTWM: dict[str, Rules] = {
    "rssm": (
        *CELL,
        (r"^inward\.", "img_in."),
        (r"^prior_hidden\.", "img_out_0."),
        (r"^prior_head\.", "img_dist_0."),
        (r"^post_hidden\.", "obs_out."),
        (r"^post_head\.", "obs_dist."),
    ),
    "encoder": (
        (r"^convs\.(\d+)\.", r"conv\1."),
        (r"^context\.convin\.", "cond_convin."),
        (r"^context\.stages\.(\d+)\.", r"cond_res\1."),
        (r"^(?:frames\.)?convin\.", "convin."),
        (r"^(?:frames\.)?stages\.(\d+)\.", r"res\1."),
        *LAYER,
    ),
    "decoder": (
        (r"^convs\.(\d+)\.", r"conv\1."),
        (r"^inward\.", "convin."),
        (r"^stages\.(\d+)\.", r"res\1."),
        (r"^outward\.", "convout."),
        *LAYER,
    ),
    "head": (
        (r"^layers\.(\d+)\.", r"dense\1."),
        (r"^out\.", "out.out."),
        (r"^std\.", "out.std."),
    ),
    "bonus": BONUS,
    "reward_norm": (),
}
SAME_AS = dict.fromkeys(("reward", "aux_reward", "discount", "actor", "critic", "target"), "head") | {"first": "rssm"}
OF_PRELAR = re.compile(r"\b(_img_in|_cnn_net|_cnn_nn|_mlp_nn|_ensemble_out_layers|_encoder)\.|convin\.0\.")


def their_name(name: str, names: Names = "prelar") -> str:
    """The originals' name of a weight of `WorldModel` or `ActorCritic`, in a whole agent's state_dict.

    Raises ValueError where that repository has no name for it.
    """
    part, _, rest = name.partition(".")
    return f"{PARTS[part]}.{_within(part, rest, names)}"


def _within(part: str, rest: str, names: Names) -> str:
    rules = (PRELAR if names == "prelar" else CONTEXTWM).get(SAME_AS.get(part, part))
    if rules is None:
        raise ValueError(f"ContextWM's own repository has no {part}: take the names of PreLAR's")
    for ours, theirs in rules:
        rest = re.sub(ours, theirs, rest)
    return rest


def named_as(state_dict: Mapping[str, Tensor]) -> Names:
    """Whose names a file's weights have."""
    return "prelar" if any(OF_PRELAR.search(name) for name in state_dict) else "contextwm"


def load_original(
    world: WorldModel, behaviour: ActorCritic | None, state_dict: Mapping[str, Tensor], names: Names | None = None
) -> None:
    """Load a whole agent's weights, all or, with a ValueError that says what it is instead, none.

    behaviour: None for what was pre-trained on videos. names: None finds them out.
    """
    names = names or named_as(state_dict)
    weights = _without_aliases(world.config, state_dict)
    modules: list[nn.Module] = [world] if behaviour is None else [world, behaviour]
    expected = {id(each): _expected(each, names) for each in modules}
    known = {theirs for each in expected.values() for theirs in each.values()}
    if weights.keys() != known:
        raise ValueError(_misfit(weights, known))
    own = [{ours: weights[theirs] for ours, theirs in expected[id(each)].items()} | _counted(each) for each in modules]
    before = [copied_weights(each) for each in modules]
    try:
        for module, each in zip(modules, own, strict=True):
            load_exactly(module, each)
    except ValueError:
        for module, each in zip(modules, before, strict=True):
            module.load_state_dict(each)
        raise


def original_state_dict(world: WorldModel, behaviour: ActorCritic | None, names: Names = "prelar") -> dict[str, Tensor]:
    """Copies of a whole agent's weights as the originals' own loader wants them, with what they store twice."""
    found = original_module(world, world.config, names)
    return found if behaviour is None else found | original_module(behaviour, world.config, names)


def load_module(
    module: nn.Module, networks: Iterable[nn.Module], config: DreamerConfig, state_dict: Mapping[str, Tensor]
) -> None:
    """Load one of an agent's networks of a whole agent's file, all of it or, with a ValueError that says why, nothing.

    networks: all of the agent, whose weights alone may stand in the file. config: the agent's.
    """
    weights, names = _without_aliases(config, state_dict), named_as(state_dict)
    if config.reads in ("video", "encoded"):
        names = "prelar"  # ContextWM's own repository has none of these
    known = {theirs for each in networks for theirs in _expected(each, names).values()}
    expected = _expected(module, names)
    if not set(expected.values()) <= weights.keys() <= known:
        raise ValueError(_misfit(weights, known))
    load_exactly(module, {ours: weights[theirs] for ours, theirs in expected.items()} | _counted(module))


def module_weights(module: nn.Module, config: DreamerConfig, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole agent's file, what belongs to the world or to the behaviour, as `original_module` names it.

    Raises ValueError where two copies of a weight differ.
    """
    once, expected = _without_aliases(config, state_dict), _expected(module, named_as(state_dict))
    found = {their_name(ours): once[theirs] for ours, theirs in expected.items() if theirs in once}
    return _with_aliases(config, found)


def original_module(module: nn.Module, config: DreamerConfig, names: Names = "prelar") -> dict[str, Tensor]:
    """Copies of the world's or the behaviour's weights as the originals' own loader wants them, what they store twice
    twice.
    """
    weights = copied_weights(module)
    return _with_aliases(config, {theirs: weights[ours] for ours, theirs in _expected(module, names).items()})


def load_network(world: WorldModel, part: str, state_dict: Mapping[str, Tensor], names: Names | None = None) -> None:
    """Load the file of one pre-trained network into a part of a world: `first`, `rssm`, `encoder`, `decoder`,
    `latent_action`. Raises ValueError where it does not fit.
    """
    module = getattr(world, part, None)
    if module is None:
        raise ValueError(f"This world has no {part}: load its file into another one")
    names = names or named_as(state_dict)
    expected = {ours: _within(part, ours, names) for ours in module.state_dict()}
    if state_dict.keys() != set(expected.values()):
        raise ValueError(_misfit(state_dict, set(expected.values())))
    load_exactly(module, {ours: state_dict[theirs] for ours, theirs in expected.items()})


def original_network(world: WorldModel, part: str, names: Names = "prelar") -> dict[str, Tensor]:
    """Copies of one network's weights, as pre-training writes them."""
    return {_within(part, ours, names): each for ours, each in copied_weights(getattr(world, part)).items()}


def _expected(module: nn.Module, names: Names) -> dict[str, str]:
    """Their names by ours, of all weights that they have."""
    return {name: their_name(name, names) for name in module.state_dict() if name not in COUNTED}


def _counted(module: nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(each) for name, each in module.state_dict().items() if name in COUNTED}


def _aliases(config: DreamerConfig) -> Rules:
    """What is stored twice: actor and critic, and an RSSM where it is one of two that are the same."""
    if not config.practises:
        return ()
    return ALIASES + (RSSMS if config.split and not config.stacked else ())


def _without_aliases(config: DreamerConfig, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight once. Raises ValueError where two copies differ."""
    weights = dict(state_dict)
    for ours, theirs in _aliases(config):
        for name in [name for name in weights if name.startswith(theirs)]:
            once, copy = ours + name.removeprefix(theirs), weights.pop(name)
            if once in weights and not (weights[once].dtype == copy.dtype and torch.equal(weights[once], copy)):
                raise ValueError(f"'{once}' and its copy '{name}' differ: make them one, or leave out the copy")
            weights.setdefault(once, copy)
    return weights


def _with_aliases(config: DreamerConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight that is stored twice twice."""
    found = dict(weights)
    for ours, theirs in _aliases(config):
        found |= {theirs + name.removeprefix(ours): each for name, each in found.items() if name.startswith(ours)}
    return found


def _misfit(weights: Mapping[str, Tensor], known: set[str]) -> str:
    lacking, strange = sorted(known - weights.keys()), sorted(weights.keys() - known)
    faults = [f"lacks '{lacking[0]}' and {len(lacking) - 1} more" if lacking else ""]
    faults += [f"has '{strange[0]}' and {len(strange) - 1} more beyond" if strange else ""]
    said = " and ".join(each for each in faults if each)
    return f"holds weights {described(weights)}, not what the recipe says: it {said}; take the recipe that made it"


def described(names: Mapping[str, Tensor]) -> str:
    """Which of the family's agents these names belong to, in words."""
    heads = {".".join(name.split(".")[:2]) for name in names}
    of_context = any("_deco_net." in name or "cond_convin" in name for name in names)
    if "wm.va_encoder" in heads:
        return "of PreLAR's pre-training"
    if "wm.action_encoder" in heads:
        return f"of PreLAR's fine-tuning{'' if 'wm.intr_bonus' in heads else ' without a bonus'}"
    if {"wm.rssm", "wm.af_rssm", "wm.intr_bonus"} <= heads:
        return f"of {'ContextWM' if of_context else 'APV'}'s fine-tuning"
    if "_task_behavior.actor" in heads:
        return "of the naive fine-tuning" if "wm.af_rssm" in heads else "of DreamerV2"
    if "wm.rssm" in heads:
        return f"of {'ContextWM' if of_context else 'APV'}'s pre-training"
    return "of a single network, or of none that is known here"
