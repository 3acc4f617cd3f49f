"""The recipe of `make demo`: two games, tiny networks of JOWA's architecture, about ten minutes on two CPU cores."""

from models.jowa.config import JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.configs.data import CollectConfig, DownsampleConfig, SegmentConfig
from pipelines.configs.learn import EvaluateConfig, LoopConfig, PhaseConfig, PretrainConfig, TokenizeConfig, TrainConfig
from pipelines.recipes.recipe import Recipe


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
    return Recipe(
        name="demo",
        games=("Boxing", "Freeway"),
        agents=(1, 2),
        collect=CollectConfig(game="", agents=2, steps=25_000, capacity=5_500, epsilon_share=0.5),
        downsample=DownsampleConfig(game="", transitions=50_000),
        segment=SegmentConfig(game=""),
        pretrain=PretrainConfig(
            tokenizer=tokenizer,
            model=model,
            phases=(
                PhaseConfig(
                    "tokenizer", ("tokenizer",), steps=3000, frames=32, lr_tokenizer=5e-3, warmup=20, decay=True
                ),
                PhaseConfig("world", ("world",), steps=1200, segments=8, lr_model=5e-3, warmup=20, decay=True),
            ),
            commitment=0.25,
            motion_gain=1.0,
        ),
        tokenize=TokenizeConfig(),
        train=TrainConfig(
            phases=(
                PhaseConfig(
                    "world_action",
                    ("world_action",),
                    steps=1200,
                    segments=16,
                    lr_model=2e-3,
                    warmup=20,
                    decay=True,
                    target_every=25,
                ),
            ),
            loop=LoopConfig(),
        ),
        evaluate=EvaluateConfig(protocol="sticky", episodes=8, context=2, beam_episodes=2, beam_steps=200),
    )
