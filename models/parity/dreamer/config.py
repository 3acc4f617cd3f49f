"""What a golden file of the Dreamer family states in `meta/config`, as configurations of ours: tables, no guesses.

Which entries there are besides, and which have one value alone here: `stated.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.dreamer.config import BehaviourConfig, DreamerConfig, Faults, WeightsConfig
from models.parity.dreamer.stated import Stated
from models.rssm.config import (
    ActionEncoderConfig,
    BonusConfig,
    FramesConfig,
    HeadConfig,
    KlConfig,
    LatentActionConfig,
    RssmConfig,
)

AGENTS: Mapping[str, Mapping[str, Any]] = {
    "PreLARPretrain": {"reads": "video"},
    "APV_Pretrain": {"reads": "nothing"},
    "PreLARFinetune": {"reads": "encoded", "split": True},
    "APV_Finetune": {"reads": "environment", "stacked": True, "split": True},
    "Naive_Finetune": {"reads": "environment", "split": True},
    "DreamerV2": {"reads": "environment"},
}
ENCODERS = {
    ("plaincnn", "plaincnn"): "plain",
    ("resnet", "resnet"): "resnet",
    ("deco_resnet", "deco_resnet"): "context",
    ("ctx_resnet", "ctx_resnet"): "context",
}
CONTEXT_FRAMES = {"trand": "random", "t0": "first", "tlast": "last"}
SEES = {"concate": "concat", "diff": "diff", "catdiff": "catdiff"}
OPTIMISERS = {"model_opt": "world_model", "enc_model_opt": "encoder", "actor_opt": "actor", "critic_opt": "critic"}
ADAM = {"opt": "adam", "eps": 1e-5}


@dataclass(frozen=True)
class Training:
    """Numbers of the optimisers, by ours: "world_model", "encoder", "actor", "critic"."""

    lr: Mapping[str, float]
    clip: Mapping[str, float]
    weight_decay: Mapping[str, float]


def dreamer_config(meta: Mapping[str, Any]) -> tuple[DreamerConfig, Training]:
    """All of ours that a file states, with what the originals do wrong.

    Raises ValueError for an entry that is missing, not known or of another value than all that there is here.
    """
    agent = str(meta.get("agent"))
    if agent not in AGENTS:
        raise ValueError(f"meta/config states the agent '{agent}': known are {', '.join(AGENTS)}")
    stated, settings = Stated(meta["config"]), AGENTS[agent]
    practises = settings["reads"] in ("environment", "encoded")
    heads = HeadConfig(stated("reward_head.layers"), stated("reward_head.units")) if practises else HeadConfig()
    found = DreamerConfig(
        **settings,
        actions=meta["act_dim"],
        concat_embed=stated("concat_embed", False) if settings.get("stacked") else False,
        rssm=_rssm(stated),
        room=stated(_actions_of(stated), 0),
        frames=_frames(stated, meta),
        latent_action=_latent(stated) if settings["reads"] == "video" else LatentActionConfig(),
        action_encoder=_encoder(stated) if settings["reads"] == "encoded" else ActionEncoderConfig(),
        heads=heads,
        ends=stated("pred_discount") if practises else False,
        ends_head=HeadConfig(stated("discount_head.layers"), stated("discount_head.units")) if practises else heads,
        bonus=_bonus(stated) if practises else BonusConfig(),
        bonus_of="feature" if settings.get("stacked") or stated("use_feat", False) else "embedding",
        kl=KlConfig(stated("kl.balance"), stated("kl.free"), stated("kl.free_avg")),
        weights=_weights(stated),
        consistency=stated("rank_loss", "none"),
        **_rewards(stated),
        behaviour=_behaviour(stated) if practises else BehaviourConfig(),
        delay=_delay(stated) if settings.get("split") else 0,
        faults=Faults(**dict.fromkeys(vars(Faults()), True) | {"late_positions": meta["repo"] == "PreLAR"}),
    )
    stated.require("concat_embed", found.concat_embed)
    for section in ("pretrain", "enc_lr_type"):
        stated.ignore(section)
    if not practises or agent == "DreamerV2":
        for section in ("k", "beta", "intr_seq_length", "intr_reward_norm", "queue_size", "queue_dim"):
            stated.ignore(section)
    _require_widths(stated, found)
    _require_actions(stated, found)
    learned = ["decoder"] + ["reward"] * practises + ["discount"] * found.ends
    stated.require("grad_heads", learned)
    training = _training(stated)
    stated.finish()
    return found, training


def _actions_of(stated: Stated) -> str:
    return "rssm.fill_action" if stated.has("rssm.fill_action") else "af_rssm.fill_action"


def _rssm(stated: Stated) -> RssmConfig:
    """Sizes of both models where two are stated: they must be the same."""
    sections = [section for section in ("rssm", "af_rssm") if stated.has(section)]
    names = ("deter", "hidden", "stoch", "discrete", "std_act", "min_std")
    found = [RssmConfig(*(stated(f"{section}.{name}") for name in names)) for section in sections]
    if found[0] != found[-1]:
        raise ValueError("meta/config states RSSMs of different sizes, where features are shared: make them alike")
    for section in sections:
        stated.require(f"{section}.fill_action", stated(_actions_of(stated), 0))
    return found[0]


def _require_actions(stated: Stated, config: DreamerConfig) -> None:
    """Which RSSM reads none."""
    stated.require("rssm.action_free", config.reads == "nothing")
    stated.require("af_rssm.action_free", config.stacked or config.reads == "nothing")


def _frames(stated: Stated, meta: Mapping[str, Any]) -> FramesConfig:
    kinds = (stated("encoder_type"), stated("decoder_type"))
    if kinds not in ENCODERS:
        raise ValueError(f"meta/config states the encoder and decoder {kinds}, which are not known here")
    names = ("cnn_depth", "res_depth", "res_layers")
    encoder, decoder = ([stated(f"{part}.{name}") for name in names] for part in ("encoder", "decoder"))
    if encoder != decoder:
        raise ValueError(f"meta/config states sizes {encoder} and {decoder} of encoder and decoder: make them alike")
    kind, (channels, stages, layers) = ENCODERS[kinds], encoder
    if kind != "context":
        for section in ("encoder_deco", "decoder_deco", "encoder_ctx", "decoder_ctx"):
            stated.ignore(section)
        return FramesConfig(kind, 64, channels, stages, layers)  # type: ignore[arg-type]
    short, section = ("ctx", "ctx") if meta["repo"] == "ContextWM" else ("deco", "deco")
    stated.require(f"encoder_{section}.ctx_aug", "none")
    stated.require(f"encoder_{section}.{short}_res_layers", layers)
    stated.require(f"decoder_{section}.ctx_attmaskwarmup", -1)
    return FramesConfig(
        "context",
        64,
        channels,
        stages,
        layers,
        context_frame=CONTEXT_FRAMES[stated(f"encoder_{section}.{short}_cond_choice")],  # type: ignore[arg-type]
        context_channels=stated(f"encoder_{section}.{short}_cnn_depth"),
        hidden_places=stated(f"decoder_{section}.{short}_attmask"),
        dropout=0.0,  # as the recording says, `meta/notes`
    )


def _latent(stated: Stated) -> LatentActionConfig:
    kind, discrete = stated("vanet.type_"), stated("vanet.discrete")
    width, plain = stated("vanet.stoch"), stated("vanet.deter")
    if kind not in ("stoch", "deter"):
        raise ValueError(f"meta/config states vanet.type_ = {kind}, which is not known here")
    for name in ("res_depth", "res_layers"):
        stated.require(f"vanet.{name}", stated(f"encoder.{name}"))
    return LatentActionConfig(
        sees=SEES[stated("vanet.va_method")],  # type: ignore[arg-type]
        kind="deterministic" if kind == "deter" else "discrete" if discrete else "stochastic",
        width=plain if kind == "deter" else width,
        discrete=discrete or 2,
        hidden=stated("vanet.hidden_dim"),
        channels=stated("vanet.cnn_depth"),
    )


def _encoder(stated: Stated) -> ActionEncoderConfig:
    kind, discrete = stated("action_encoder.type_"), stated("action_encoder.discrete")
    width, plain = stated("action_encoder.stoch"), stated("action_encoder.deter")
    if kind not in ("stoch", "deter"):
        raise ValueError(f"meta/config states action_encoder.type_ = {kind}, which is not known here")
    return ActionEncoderConfig(
        kind="deterministic" if kind == "deter" else "discrete" if discrete else "stochastic",
        width=plain if kind == "deter" else width,
        discrete=discrete or 2,
        hidden=stated("action_encoder.hidden_dim"),
    )


def _bonus(stated: Stated) -> BonusConfig:
    return BonusConfig(
        weight=stated("beta"),
        neighbours=stated("k"),
        window=stated("intr_seq_length"),
        queue=stated("queue_size"),
        width=stated("queue_dim"),
        momentum=stated("intr_reward_norm.momentum"),
        eps=stated("intr_reward_norm.eps"),
    )


def _weights(stated: Stated) -> WeightsConfig:
    """Terms that a file does not weigh have weight 1, but for an auxiliary reward and a first divergence, which are not
    there. A consistency is called rank.
    """
    names = {"image": 1.0, "reward": 1.0, "discount": 1.0, "aux_reward": 0.0}
    found = {name: float(stated(f"loss_scales.{name}", default)) for name, default in names.items()}
    return WeightsConfig(
        kl=stated("loss_scales.kl"),
        first_kl=float(stated("loss_scales.af_kl", 0.0)),
        latent_kl=float(stated("loss_scales.va_kl", 1.0)),
        consistency=float(stated("loss_scales.rank", 1.0)),
        **found,
    )


def _behaviour(stated: Stated) -> BehaviourConfig:
    return BehaviourConfig(
        actor=HeadConfig(stated("actor.layers"), stated("actor.units")),
        critic=HeadConfig(stated("critic.layers"), stated("critic.units")),
        horizon=stated("imag_horizon"),
        discount=stated("discount"),
        lambda_=stated("discount_lambda"),
        entropy=stated("actor_ent"),
        target_every=stated("slow_target_update"),
        target_share=float(stated("slow_target_fraction")),
        reward_momentum=stated("reward_norm.momentum"),
    )


def _rewards(stated: Stated) -> dict[str, Any]:
    """How rewards are bent: by name, or divided by a number."""
    bent = stated("clip_rewards")
    return {"reward_unit": float(bent)} if isinstance(bent, int | float) else {"rewards": bent}


def _delay(stated: Stated) -> int:
    """Updates for which what was loaded waits: all of those before play."""
    kind = stated("enc_lr_type")
    if kind not in ("no_pretrain", "none"):
        raise ValueError(f"meta/config states enc_lr_type = {kind}, which is not known here")
    return stated("pretrain") if kind == "no_pretrain" else 0


def _training(stated: Stated) -> Training:
    found: dict[str, dict[str, float]] = {"lr": {}, "clip": {}, "wd": {}}
    for section, ours in OPTIMISERS.items():
        if stated.has(section):
            for name, value in ADAM.items():
                stated.require(f"{section}.{name}", value)
            for name, values in found.items():
                values[ours] = float(stated(f"{section}.{name}"))
    return Training(found["lr"], found["clip"], found["wd"])


def _require_widths(stated: Stated, config: DreamerConfig) -> None:
    """Sizes that follow from others, where the file states them."""
    feature, embedded = config.rssm.feature, config.frames.embedded
    for name in ("decoder.cnn_input_dim", "reward_head.input_dim", "actor.input_dim", "critic.input_dim"):
        stated.require(name, feature)
    stated.require("af_rssm.embed_dim", embedded)
    if config.concat_embed:
        stated.ignore("rssm.embed_dim")  # there it follows from nothing
    else:
        stated.require("rssm.embed_dim", feature if config.stacked else embedded)
