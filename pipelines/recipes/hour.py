"""The recipe of one CPU hour: the demo's two games, four times its training, and values that a search can use.

A search plays r + gamma * max Q of what it imagines, so Q must be right as a number, not only in its order. The demo's
heavy penalty makes Q a good imitator and a poor number: after an action that the data seldom shows, Q is higher.
BENCHMARKS.md, "Learn something real", has the evidence and the measured cost.
Run: `worldline demo --recipe freeway_boxing --name hour`.
"""

from dataclasses import replace

from pipelines.recipes.demo import demo
from pipelines.recipes.recipe import Recipe


def freeway_boxing() -> Recipe:
    """Freeway and Boxing from 200,000 frames, a wider model, searched as long as it plays greedily: one CPU hour."""
    small = demo()
    tokenizer, world = small.pretrain.phases
    (action,) = small.train.phases
    return replace(
        small,
        name="freeway_boxing",
        collect=replace(small.collect, steps=50_000, capacity=11_000),
        downsample=replace(small.downsample, transitions=100_000),
        pretrain=replace(
            small.pretrain,
            model=replace(
                small.pretrain.model,
                layers=3,
                heads=6,
                width=192,
                q_hidden=384,
                value_min=-5.0,
                value_max=5.0,  # Q starts at the middle: 0, not a bias that bootstrapping takes long to lose
                cql_weight=0.1,
            ),
            phases=(replace(tokenizer, steps=5000), replace(world, steps=2000)),
        ),
        train=replace(
            small.train,
            phases=(replace(action, steps=3000),),
            loop=replace(small.train.loop, evaluate_every=300, evaluate_episodes=8, evaluate_steps=400),
        ),
        evaluate=replace(small.evaluate, episodes=16, random_episodes=16, beam_episodes=16, beam_steps=0),
    )
