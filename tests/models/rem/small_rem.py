"""A REM so small that it learns in no time."""

from dataclasses import replace
from functools import partial

from models.rem.config import TOKENIZER, RemActorConfig, RemConfig, WorldModelConfig
from tests.models.practice.learning import SMALL_SIZES, with_part

STEPS, BURN_IN = 5, 3
CONFIG = RemConfig(
    frame=(32, 32, 3),
    tokenizer=replace(TOKENIZER, vocab_size=16, **SMALL_SIZES),
    world_model=WorldModelConfig(STEPS, 2, 2, 16, 0.0, 2, num_actions=5),
    actor_critic=RemActorConfig(hidden=8, num_actions=5, resolution=32, horizon=STEPS, burn_in=BURN_IN),
)


# With other numbers of the world model, or of the actor-critic.
world, actor = partial(with_part, CONFIG, "world_model"), partial(with_part, CONFIG, "actor_critic")
PIXELS = actor(kind="pixels", channels=(4, 4), action_inputs=False)
ATTENTION = world(attention=True, blocks_per_chunk=3)
VARIANTS = {
    "rem": CONFIG,
    "no pop": world(pop=False),
    "separate embeddings": world(shared_embeddings=False),
    "shared prediction token": world(shared_prediction_token=True),
    "no action inputs": actor(action_inputs=False),
    "gru": actor(rnn="gru"),
    "pixels": PIXELS,
}
