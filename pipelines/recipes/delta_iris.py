"""Delta-IRIS's recipes: an agent whose tokens tell what changes, on Atari and on Crafter.

`delta_iris_atari` plays 100,000 steps and `delta_iris_crafter` ten million, both with the original's numbers.
`delta_iris_mini` plays Crafter on a small scale, within the hour on a processor; `delta_iris_freeway` learns Freeway of
the trajectories that `iris_mini` learns from, and never plays. The first round plays at random; what
each network learns in it is a number of its own; segments are drawn from episodes that were drawn seldom. Run:
`worldline experiment new crafter --recipe delta_iris_mini`, then `worldline materialize crafter`.
Source: arXiv 2406.19320, section 4 and appendix A, with the numbers of its code where the paper is silent.
"""

from collections.abc import Mapping
from dataclasses import replace

from models.delta_iris.config import (
    DeltaActorConfig,
    DeltaIrisConfig,
    DeltaTokenizerConfig,
    DeltaWeights,
    EncoderConfig,
    StackConfig,
    WorldModelConfig,
)
from models.delta_iris.sizes import sized
from pipelines.batches.memory import Draws
from pipelines.evaluation.player_settings import ACTOR, SearchConfig
from pipelines.graph.recipe import Recipe
from pipelines.recipes.iris import iris_mini
from pipelines.recipes.released import of_game
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.learn import LearnConfig
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig, Practice

AS_IT_LEARNED = SearchConfig(temperature=1.0)  # actions are drawn as they were when it played to learn


def delta_iris_atari() -> Recipe:
    """Delta-IRIS on Atari 100k: 600 rounds of 200 steps of play (491 of them, the first of 2,000 at random)."""
    return Recipe("delta_iris_atari", games=("Pong",)).but(
        learn=LearnConfig(
            networks=DeltaIrisConfig(),
            rounds=600,
            uses=(
                Practice("tokenizer", 16, updates=200, start=5, weight_decay=0.0, clip=10.0),
                Practice("world_model", 64, updates=120, start=50, weight_decay=0.01, clip=10.0),
                Practice("actor_critic", 64, updates=200, start=75, weight_decay=0.0, clip=10.0),
            ),
            collect=PlayTurns("iris-train", steps=200, until=491, epsilon=0.01, first_steps=2_000, first_epsilon=1.0),
            check=CheckPlay(every=25, episodes=32, temperature=1.0, protocol="iris"),
            sampling="counts",
            loop=LoopConfig(save_seconds=600.0),
        ),
        evaluate=EvaluateConfig(protocol="iris", planner=ACTOR, episodes=100, epsilon=0.0, search=AS_IT_LEARNED),
    )


def delta_iris_crafter() -> Recipe:
    """Delta-IRIS on Crafter: 1,000 rounds of 10,000 steps in 16 worlds (991 of them, 100,000 at random first)."""
    atari = delta_iris_atari()
    learn, given = atari.of(LearnConfig), networks(atari)
    seeing = replace(given.tokenizer, frame_cnn=EncoderConfig(latent=8), num_actions=17, revive_updates=0)
    world = WorldModelConfig(
        max_steps=21,
        heads=8,
        width=512,
        frame_cnn=EncoderConfig(channels=32, latent=8),
        num_actions=17,
        rewards="two_hot",
        latents_weight=1.0,
        ends_weight=1.0,
    )
    actor = DeltaActorConfig(num_actions=17, values="two_hot", horizon=15, gamma=0.997, entropy=0.001)
    return atari.but(
        name="delta_iris_crafter",
        games=("Crafter",),
        learn=replace(
            learn,
            networks=replace(given, tokenizer=seeing, world_model=world, actor_critic=actor),
            rounds=1000,
            uses=(
                Practice("tokenizer", 32, updates=500, first=5_000, weight_decay=0.01, clip=10.0),
                Practice("world_model", 32, updates=500, first=2_500, weight_decay=0.01, clip=10.0),
                Practice("actor_critic", 86, updates=500, weight_decay=0.0, clip=10.0),
            ),
            collect=PlayTurns(
                "crafter_10m",
                steps=10_000,
                until=991,
                epsilon=0.01,
                environments=16,
                first_steps=100_000,
                first_epsilon=1.0,
            ),
            check=CheckPlay(every=50, episodes=64, temperature=1.0, protocol="crafter_10m"),
            draws=Draws(power=5.0),
        ),
        evaluate=EvaluateConfig(protocol="crafter_10m", planner=ACTOR, episodes=256, epsilon=0.0, search=AS_IT_LEARNED),
    )


def delta_iris_mini() -> Recipe:
    """Crafter with small networks, within the hour on two processors: plays, learns its world, practises in it."""
    crafter = delta_iris_crafter()
    learn, given = crafter.of(LearnConfig), networks(crafter)
    halved = EncoderConfig(channels=32, mult=(1, 2), down=(1, 0), norm_groups=8, patch_stem=4, latent=16)
    tokenizer = DeltaTokenizerConfig(
        vocab_size=256,
        code_dim=16,
        encoder=replace(halved, latent=32),
        decoder=StackConfig(channels=32, mult=(1, 2), down=(1, 0), norm_groups=8, patch_stem=4),
        frame_cnn=replace(halved, latent=32),
        num_actions=17,
        difference=True,
        usage_decay=0.95,  # a code that nothing chooses is revived after 45 updates, not 114: there are a thousand
        revive_updates=-1,
    )
    world = replace(
        given.world_model,
        max_steps=10,
        layers=2,
        heads=4,
        width=128,
        frame_cnn=replace(halved, down=(1, 1), latent=8),
    )
    actor = replace(
        given.actor_critic,
        frame_cnn=replace(halved, down=(1, 1), latent=8),
        hidden=128,
        horizon=5,
        burn_in=3,
        gamma=0.97,
    )
    return crafter.but(
        name="delta_iris_mini",
        learn=replace(
            learn,
            networks=replace(given, tokenizer=tokenizer, world_model=world, actor_critic=actor, tokenizer_steps=6),
            rounds=8,
            uses=(
                Practice("tokenizer", 16, updates=60, lr=1e-3, first=600, weight_decay=0.01, clip=10.0),
                Practice("world_model", 16, updates=70, lr=1e-3, first=500, weight_decay=0.01, clip=10.0),
                Practice("actor_critic", 32, updates=40, lr=5e-4, weight_decay=0.0, clip=10.0),
            ),
            collect=PlayTurns("crafter", steps=400, epsilon=0.05, environments=2, first_steps=4_000, first_epsilon=1.0),
            check=CheckPlay(every=0, episodes=8, temperature=1.0, protocol="crafter"),
            draws=Draws(power=1.0),
            loop=LoopConfig(),
        ),
        evaluate=EvaluateConfig(
            protocol="crafter",
            planner=ACTOR,
            episodes=30,
            random_episodes=30,
            epsilon=0.0,
            search=AS_IT_LEARNED,
        ),
    )


def delta_iris_freeway() -> Recipe:
    """Freeway from the trajectories of `iris_mini`, small networks, within the hour on a processor; no step is played.

    BENCHMARKS.md, "Three families on the same trajectories", has its returns beside those of JOWA and IRIS.
    """
    data, crafter = iris_mini(), networks(delta_iris_mini())
    stack = replace(crafter.tokenizer.frame_cnn, down=(1, 0))
    tokenizer = replace(
        crafter.tokenizer,
        encoder=replace(crafter.tokenizer.encoder, down=(1, 0)),
        frame_cnn=stack,
        num_actions=18,
        resolution=48,
    )
    world = WorldModelConfig(max_steps=10, layers=2, width=144, frame_cnn=replace(stack, down=(1, 1), latent=16))
    actor = DeltaActorConfig(
        resolution=48,
        frame_cnn=replace(stack, down=(1, 1), latent=16),
        hidden=128,
        horizon=15,
        burn_in=4,
        gamma=0.97,
        entropy=0.001,
    )
    given = DeltaIrisConfig(
        frame=(84, 84, 1),
        tokenizer=tokenizer,
        world_model=world,
        actor_critic=actor,
        weights=DeltaWeights(motion_gain=1.0),  # without it nothing but copies is learned: little moves
        tokenizer_steps=6,
    )
    learn = replace(
        data.learn,
        networks=given,
        uses=(
            Practice("tokenizer", 16, updates=2500, lr=1e-3, weight_decay=0.01, clip=10.0),
            Practice("world_model", 16, updates=2500, lr=1e-3, weight_decay=0.01, clip=10.0),
            Practice("actor_critic", 32, updates=300, lr=1e-3, weight_decay=0.0, clip=10.0),
        ),
        check=replace(data.learn.check, temperature=1.0),
    )
    return data.but(name="delta_iris_freeway", learn=learn, evaluate=replace(data.evaluate, search=AS_IT_LEARNED))


def networks(recipe: Recipe) -> DeltaIrisConfig:
    """Those that a recipe of this file learns."""
    found = recipe.of(LearnConfig).networks
    assert isinstance(found, DeltaIrisConfig)
    return found


def released(given: DeltaIrisConfig, shapes: Mapping[str, tuple[int, ...]], game: str) -> DeltaIrisConfig:
    """The networks of a checkpoint of one game: `given` with the sizes that its names and shapes tell.

    Raises ValueError as `models.delta_iris.sizes.sized`, UsageError as `of_game`.
    """
    return of_game(sized(given, shapes), game)
