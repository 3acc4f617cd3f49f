"""A recipe of three quarters of a CPU hour: the demo's two games and networks, five times its second stage.

A search plays r + gamma * max Q of what it imagines, so Q must be right as a number, not only in its order. Heavily
penalised, Q(s, a) tends to log b(a | s) plus a value that makes up for b's entropy: it is higher wherever the data's
next action is hard to guess. In data whose exploration falls, an odd action betrays a beginner, whose next action is
hard to guess, so a search prefers odd actions. Here exploration is constant and the penalty is the paper's. That ends
the bias; it does not yet make a search better than greedy play.
BENCHMARKS.md, "Learn something real", has the evidence, the returns and the cost.
Run: `worldline demo --recipe freeway_boxing --name hour`.
"""

from dataclasses import replace

from models.jowa.config import JowaAgentConfig
from pipelines.graph.recipe import Recipe
from pipelines.recipes.demo import demo


def freeway_boxing() -> Recipe:
    """Freeway and Boxing from 200,000 frames, played greedily and by beam search for as long: 45 CPU minutes."""
    small = demo()
    networks, (tokenizer, world) = small.pretrain.networks, small.pretrain.phases
    assert isinstance(networks, JowaAgentConfig)
    (action,) = small.train.phases
    return small.but(
        name="freeway_boxing",
        collect=replace(small.collect, steps=50_000, capacity=11_000, epsilon_start=0.1, epsilon_end=0.1),
        downsample=replace(small.downsample, transitions=100_000),
        pretrain=replace(
            small.pretrain,
            networks=replace(
                networks,
                model=replace(
                    networks.model,
                    value_min=-5.0,
                    value_max=5.0,  # Q starts at the middle: 0, not a bias that bootstrapping takes long to lose
                    cql_weight=0.1,
                ),
            ),
            phases=(tokenizer, replace(world, steps=1500)),
        ),
        train=replace(
            small.train,
            phases=(replace(action, steps=6000),),
            loop=replace(small.train.loop, evaluate_every=600, evaluate_episodes=8, evaluate_steps=400),
        ),
        evaluate=replace(small.evaluate, episodes=16, random_episodes=16, beam_episodes=16, beam_steps=0),
    )
