"""The family's systems with the sizes and weights that were published for Meta-world. Imports no torch.

Each is trained on videos first and then fine-tuned, but for DreamerV2. What a fine-tuned world takes over from one that
saw videos: `WorldModel.take_over`. Sources: arXiv 2010.02193, 2203.13880, 2305.18499; PreLAR (ECCV 2024); the numbers
are those of PreLAR's and ContextWM's code.
"""

from collections.abc import Callable, Mapping

from models.dreamer.config import DreamerConfig, WeightsConfig
from models.rssm.config import BonusConfig, FramesConfig, LatentActionConfig

ROOM = 50  # numbers of an action that APV's weights leave room for
DELAY = 100  # updates for which what videos taught stays as it is
PAID = WeightsConfig(aux_reward=1.0)


def dreamerv2() -> DreamerConfig:
    """From scratch, with plain convolutions."""
    return DreamerConfig(frames=FramesConfig("plain"))


def apv_pretrain() -> DreamerConfig:
    """A world of videos, whose RSSM reads no action."""
    return DreamerConfig(reads="nothing", room=ROOM)


def apv() -> DreamerConfig:
    """That world below a new one that reads actions; a bonus for what is new to the lower one."""
    return DreamerConfig(
        stacked=True,
        room=ROOM,
        bonus=BonusConfig(weight=1.0),
        bonus_of="feature",
        weights=PAID,
        split=True,
        delay=DELAY,
    )


def contextwm_pretrain() -> DreamerConfig:
    """APV's with frames read and drawn in the context of one of them."""
    return DreamerConfig(reads="nothing", room=ROOM, frames=FramesConfig("context"))


def contextwm() -> DreamerConfig:
    """See `contextwm_pretrain`."""
    return DreamerConfig(
        stacked=True,
        room=ROOM,
        frames=FramesConfig("context"),
        bonus=BonusConfig(weight=1.0),
        bonus_of="feature",
        weights=PAID,
        split=True,
        delay=DELAY,
    )


def prelar_pretrain() -> DreamerConfig:
    """A world of videos that reads latent actions, told by the video; consistency as published, which moves nothing."""
    return DreamerConfig(reads="video", consistency="sign")


def prelar_no_cl() -> DreamerConfig:
    """Without the consistency."""
    return DreamerConfig(reads="video")


def prelar_no_al_cl() -> DreamerConfig:
    """Without it, and with plain latent actions that nothing draws together."""
    return DreamerConfig(reads="video", latent_action=LatentActionConfig(kind="deterministic"))


def prelar() -> DreamerConfig:
    """That world, fed by an action encoder; a bonus for frames that are new."""
    return DreamerConfig(reads="encoded", bonus=BonusConfig(weight=1.0), weights=PAID, split=True, delay=DELAY)


def prelar_naive() -> DreamerConfig:
    """The same without a bonus."""
    return DreamerConfig(reads="encoded", split=True, delay=DELAY)


def naive() -> DreamerConfig:
    """APV's world of videos, given real actions where it was given none."""
    return DreamerConfig(room=ROOM, split=True, delay=DELAY)


SYSTEMS: Mapping[str, Callable[[], DreamerConfig]] = {
    each.__name__: each
    for each in (
        dreamerv2,
        apv_pretrain,
        apv,
        contextwm_pretrain,
        contextwm,
        prelar_pretrain,
        prelar_no_cl,
        prelar_no_al_cl,
        prelar,
        prelar_naive,
        naive,
    )
}
