"""A Simulus so small that it learns in no time."""

from dataclasses import replace
from functools import partial

from models.simulus.config import TOKENIZER, SimulusActorConfig, SimulusConfig, WorldModelConfig
from models.tokenizers.config import TokenizerWeights
from tests.models.practice.learning import SMALL_SIZES, with_part

STEPS, BURN_IN = 5, 3
CONFIG = SimulusConfig(
    frame=(32, 32, 3),
    tokenizer=replace(TOKENIZER, vocab_size=16, fsq_levels=(4, 4), **SMALL_SIZES),
    world_model=WorldModelConfig(
        max_steps=STEPS, layers=2, heads=2, width=16, dropout=0.0, ensemble=2, reward_bins=9, num_actions=5
    ),
    actor_critic=SimulusActorConfig(
        mlp=(8,), num_actions=5, resolution=32, horizon=STEPS, burn_in=BURN_IN, value_bins=9, return_buffer=64
    ),
)


# With other numbers of the world model, or of the actor-critic.
world, actor = partial(with_part, CONFIG, "world_model"), partial(with_part, CONFIG, "actor_critic")
EMA = replace(
    CONFIG,
    tokenizer=replace(
        CONFIG.tokenizer,
        quantizer="ema",
        fsq_levels=(),
        quant_convs=False,
        revive="anywhere",
        revive_below=1.0,
        ema_smoothing=1e-5,
    ),
    weights=TokenizerWeights(l1=0.0, mse=1.0, codes=0.0),
)
VARIANTS = {
    "simulus": CONFIG,
    "retnet": world(backbone="retnet", blocks_per_chunk=2),
    "wider than codes": world(width=32),
    "not curious": world(ensemble=0),
    "separate": actor(separate=True, mlp=(12, 8)),
    "no action inputs": actor(action_inputs=False),
    "misaligned": actor(aligned=False, burn_in_actions=False),
    "ema": EMA,
}
