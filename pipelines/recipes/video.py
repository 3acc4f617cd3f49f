"""The video family's recipes: worlds that learn videos without actions, and robots that go on from them on Meta-world.

`apv`, `contextwm`, `prelar` and its baselines consist of the videos, a world that learns them, and an agent that goes
on from it by its own play; `*_pretrain` stops at the world; `dreamerv2` begins from scratch. A task is an artefact of
its own: `--games metaworld_apv` makes the six of the papers. `prelar_mini` does all of it in about an hour on 2 cores,
`prelar_mini_scratch` is the same agent without videos, and `dreamerv2_mini` the smallest of all.
Run: `worldline experiment new reach --recipe prelar --games reach`, then `worldline materialize reach`.
Sources: arXiv 2010.02193, 2203.13880, 2305.18499; PreLAR (ECCV 2024), with the numbers of its code: 600,000 steps on
videos, 5,000 random steps of play, then an update of everything every 5 steps up to 255,000.
"""

from dataclasses import replace

from models.dreamer import systems
from models.dreamer.config import BehaviourConfig, DreamerConfig
from models.rssm.config import (
    ActionEncoderConfig,
    FramesConfig,
    HeadConfig,
    RssmConfig,
)
from pipelines.graph.recipe import Recipe
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.stages.videos import VideosConfig
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Phase, Practice, Use

DECAY, CLIP = 1e-6, 100.0
PLAYED, TURN = (
    250_000,
    50,
)  # steps behind the random ones; steps of a turn: ten updates, of which each follows five steps
RANDOM, FIRST = 5_000, 100  # random steps, and updates on them before play goes on


def _acting(name: str, networks: DreamerConfig) -> Recipe:
    """An agent that learns a task by its own play."""
    updates = TURN // 5

    def practice(objective: str, lr: float) -> Practice:
        return Practice(objective, 50, updates, lr, first=FIRST, weight_decay=DECAY, clip=CLIP)

    return Recipe(name, games=("reach",)).but(
        learn=LearnConfig(
            networks=networks,
            rounds=1 + PLAYED // TURN,
            uses=(practice("world", 3e-4), practice("behaviour", 8e-5)),
            sampling="ends",
            collect=PlayTurns("metaworld", steps=TURN, epsilon=0.0, first_steps=RANDOM, first_epsilon=1.0),
            check=CheckPlay(every=10_000 // TURN, episodes=10, temperature=0.0, protocol="metaworld"),
            loop=LoopConfig(save_seconds=600.0),
        ),
        evaluate=EvaluateConfig(protocol="metaworld", planner="greedy", episodes=50, epsilon=0.0),
    )


def _watching(name: str, world: DreamerConfig, steps: int = 600_000) -> Recipe:
    """A world that learns videos, and nothing else: 16 segments of 25 frames a step."""
    return Recipe(name, games=("reach",)).but(
        videos=VideosConfig(),
        pretrain_videos=PretrainVideosConfig(
            world=replace(world, segment=25),
            phases=(Phase("videos", steps, (Use("world", 16, lr=3e-4),), weight_decay=DECAY, clip=CLIP),),
            loop=LoopConfig(save_seconds=600.0, holdout_episodes=16),
        ),
    )


def _both(name: str, world: DreamerConfig, networks: DreamerConfig) -> Recipe:
    """A world of videos and the agent that goes on from it."""
    acting = _acting(name, networks)
    return _watching(name, world).but(learn=acting.of(LearnConfig), evaluate=acting.of(EvaluateConfig))


def dreamerv2() -> Recipe:
    """DreamerV2 on Meta-world, from scratch."""
    return _acting("dreamerv2", systems.dreamerv2())


def apv_pretrain() -> Recipe:
    """APV's world of videos, whose state-space model reads no action."""
    return _watching("apv_pretrain", systems.apv_pretrain())


def apv() -> Recipe:
    """APV: that world below a new one that reads actions, and a bonus for what is new."""
    return _both("apv", systems.apv_pretrain(), systems.apv())


def contextwm_pretrain() -> Recipe:
    """ContextWM's world of videos: frames are read and drawn in the context of one of them."""
    return _watching("contextwm_pretrain", systems.contextwm_pretrain())


def contextwm() -> Recipe:
    """ContextWM: APV with that context. Its own code also sets learn.frames.blanked=0.5, but for drawer-open."""
    return _both("contextwm", systems.contextwm_pretrain(), systems.contextwm())


def prelar_pretrain() -> Recipe:
    """PreLAR's world of videos, which reads latent actions; its consistency as published, which moves nothing."""
    return _watching("prelar_pretrain", systems.prelar_pretrain())


def prelar() -> Recipe:
    """PreLAR: that world, given real actions through an encoder of its own, and a bonus for what is new."""
    return _both("prelar", systems.prelar_pretrain(), systems.prelar())


def prelar_soft() -> Recipe:
    """PreLAR with a consistency that has a gradient, which the published one lacks. Ours, not the paper's.

    BENCHMARKS.md has what it does to small latent actions; consistency=relative does not shrink them.
    """
    return _both("prelar_soft", replace(systems.prelar_pretrain(), consistency="soft"), systems.prelar())


def prelar_no_cl() -> Recipe:
    """PreLAR without the consistency of actions and states."""
    return _both("prelar_no_cl", systems.prelar_no_cl(), systems.prelar())


def prelar_no_al_cl() -> Recipe:
    """PreLAR without it, and with latent actions that are plain numbers."""
    return _both("prelar_no_al_cl", systems.prelar_no_al_cl(), systems.prelar())


def prelar_naive() -> Recipe:
    """PreLAR without a bonus."""
    return _both("prelar_naive", systems.prelar_pretrain(), systems.prelar_naive())


def naive() -> Recipe:
    """APV's world of videos, given real actions where it was given none."""
    return _both("naive", systems.apv_pretrain(), systems.naive())


# ---- small ones, for processors ----

TASK = "drawer-close"
COARSE = "metaworld_coarse"
WATCHED = ("button-press", "door-close", "drawer-open", "faucet-open", "handle-press", "plate-slide", "window-close")


def _small(networks: DreamerConfig) -> DreamerConfig:
    """A hundredth of the weights, plain convolutions, segments of 16 steps."""
    head = HeadConfig(layers=2, units=128)
    return replace(
        networks,
        rssm=RssmConfig(deter=200, hidden=200, stoch=16, discrete=16),
        frames=FramesConfig("plain", channels=16),
        latent_action=replace(networks.latent_action, width=16, hidden=128, channels=16),
        action_encoder=ActionEncoderConfig(width=16, hidden=64),
        heads=head,
        behaviour=BehaviourConfig(head, head, horizon=10),
        segment=16,
    )


def _small_acting(name: str, networks: DreamerConfig) -> Recipe:
    """Seven thousand steps of one task, drawn the fastest way."""
    large = _acting(name, networks)
    learn, evaluate = large.of(LearnConfig), large.of(EvaluateConfig)
    world, behaviour = (replace(use, batch=16, updates=24, first=100) for use in learn.uses)
    return large.but(
        games=(TASK,),
        learn=replace(
            learn,
            networks=_small(networks),
            rounds=26,
            sampling="episodes",  # by which it was measured
            uses=(replace(world, lr=1e-3), replace(behaviour, lr=3e-4)),
            collect=PlayTurns(COARSE, steps=200, epsilon=0.0, first_steps=2000, first_epsilon=1.0),
            check=CheckPlay(every=0, episodes=4, temperature=0.0, protocol=COARSE),
            loop=LoopConfig(),
        ),
        evaluate=replace(evaluate, protocol=COARSE, episodes=16),
    )


def dreamerv2_mini() -> Recipe:
    """DreamerV2 on a small scale: seven thousand steps of one task, from scratch."""
    return _small_acting("dreamerv2_mini", systems.dreamerv2())


def prelar_mini() -> Recipe:
    """PreLAR on a small scale: videos of seven other tasks, a world that learns them, seven thousand steps of one task.

    BENCHMARKS.md, "From videos to a robot that acts", has what it reaches and costs.
    """
    # A lighter divergence: with the published weight, latent actions of so small a world say nothing at all.
    plain = systems.prelar_pretrain()
    watched = _small(replace(plain, consistency="soft", weights=replace(plain.weights, latent_kl=0.1)))
    acting = _small_acting("prelar_mini", replace(systems.prelar(), delay=30))
    return acting.but(
        videos=VideosConfig(tasks=WATCHED, cameras=("corner",), episodes=12, limit=120, protocol=COARSE),
        pretrain_videos=PretrainVideosConfig(
            world=watched,
            phases=(Phase("videos", 800, (Use("world", 16, lr=1e-3),), weight_decay=DECAY, clip=CLIP),),
            loop=LoopConfig(holdout_episodes=14),
        ),
    )


def prelar_mini_scratch() -> Recipe:
    """The same agent as `prelar_mini`, which never saw a video."""
    return _small_acting("prelar_mini_scratch", replace(systems.prelar(), split=False, delay=0))
