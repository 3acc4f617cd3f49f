"""The smallest run that still passes through every stage: seconds on one core. For tests and for trying things out."""

from dataclasses import replace

from pipelines.recipes.demo import demo
from pipelines.recipes.recipe import Recipe


def mini() -> Recipe:
    """The demo with one short game, one agent and a few training steps; its scores mean nothing."""
    big = demo()
    return replace(
        big,
        name="mini",
        games=("Pong",),
        agents=(1,),
        collect=replace(big.collect, agents=1, steps=2_600, capacity=500),
        downsample=replace(big.downsample, transitions=3_000),
        pretrain=replace(
            big.pretrain,
            tokenizer=replace(big.pretrain.tokenizer, channels=4, vocab_size=64, z_channels=16, embed_dim=16),
            model=replace(big.pretrain.model, vocab_size=64, layers=1, heads=2, width=32, q_hidden=24),
            phases=tuple(replace(phase, steps=4, frames=8, segments=2) for phase in big.pretrain.phases),
            sight_frames=8,
        ),
        train=replace(
            big.train, phases=tuple(replace(phase, steps=4, segments=2) for phase in big.train.phases), sight_frames=8
        ),
        evaluate=replace(big.evaluate, episodes=2, random_episodes=2, beam_episodes=1, beam_steps=3, max_steps=40),
    )
