"""The recipe of `make demo`: two games, tiny networks of JOWA's architecture; and `mini`, the smallest whole run."""

from dataclasses import replace

from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.graph.recipe import Recipe
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import PretrainConfig, TrainConfig
from pipelines.stages.tune import TuneConfig
from pipelines.training.schedule import LoopConfig, Phase, Use


def demo() -> Recipe:
    """Freeway (always up wins) and Boxing (the script must see its opponent), learned from 100,000 frames."""
    tokenizer = TokenizerConfig(
        vocab_size=512,
        embed_dim=64,
        z_channels=64,
        channels=32,
        channel_mult=(1, 2),
        res_blocks=1,
        attention=False,
        downsample=(2,),
        patch_stem=7,
        quantizer="ema",
        kmeans_start=True,
        revive_below=0.1,
    )
    model = JowaConfig(
        vocab_size=512,
        layers=2,
        heads=4,
        width=128,
        dropout=0.0,
        q_hidden=256,
        embedding_std=0.1,
        factored_positions=True,
        gamma=0.95,  # rewards a second away matter; a longer horizon is not learned in a thousand steps
        value_min=-5.0,
        value_max=10.0,
        cql_weight=1.0,  # ten times the original: little data, stay close to it
    )
    return Recipe("demo", games=("Boxing", "Freeway"), agents=(1, 2)).but(
        fetch=FetchConfig(),
        tune=TuneConfig(),
        collect=CollectConfig(agents=2, steps=25_000, capacity=5_500, epsilon_share=0.5),
        downsample=DownsampleConfig(transitions=50_000),
        segment=SegmentConfig(),
        pretrain=PretrainConfig(
            networks=JowaAgentConfig(tokenizer=tokenizer, model=model, commitment=0.25, motion_gain=1.0),
            phases=(
                Phase("tokenizer", 3000, (Use("tokenizer", 32, lr=5e-3),), warmup=20, decay=True),
                Phase("world", 1200, (Use("world", 8, lr=5e-3),), warmup=20, decay=True),
            ),
        ),
        tokenize=TokenizeConfig(),
        train=TrainConfig(
            phases=(
                Phase(
                    "world_action",
                    1200,
                    (Use("world_action", 16, lr=2e-3, target_every=25),),
                    warmup=20,
                    decay=True,
                ),
            ),
            loop=LoopConfig(),
        ),
        evaluate=EvaluateConfig(protocol="sticky", episodes=8, context=2, beam_episodes=2, beam_steps=200),
    )


def mini() -> Recipe:
    """The demo with one short game, one agent and a few training steps; its scores mean nothing."""
    big = demo()
    networks, (tokenizer, world) = big.pretrain.networks, big.pretrain.phases
    assert isinstance(networks, JowaAgentConfig)
    return big.but(
        name="mini",
        games=("Pong",),
        agents=(1,),
        collect=replace(big.collect, agents=1, steps=2_600, capacity=500),
        downsample=replace(big.downsample, transitions=3_000),
        pretrain=replace(
            big.pretrain,
            networks=replace(
                networks,
                tokenizer=replace(networks.tokenizer, channels=4, vocab_size=64, z_channels=16, embed_dim=16),
                model=replace(networks.model, vocab_size=64, layers=1, heads=2, width=32, q_hidden=24),
            ),
            phases=(_shorter(tokenizer, 8), _shorter(world, 2)),
            sight_frames=8,
        ),
        train=replace(big.train, phases=tuple(_shorter(phase, 2) for phase in big.train.phases), sight_frames=8),
        evaluate=replace(big.evaluate, episodes=2, random_episodes=2, beam_episodes=1, beam_steps=3, max_steps=40),
    )


def _shorter(phase: Phase, batch: int) -> Phase:
    return replace(phase, steps=4, uses=tuple(replace(use, batch=batch) for use in phase.uses))
