"""Fine-tuning as a derived recipe: the same training, then the same networks on the best episodes of one game."""

from dataclasses import replace

from pipelines.configs.finetune import FinetuneConfig, ImagineConfig
from pipelines.recipes.recipe import Recipe


def finetuned(base: Recipe, game: str, episodes: int = 4, imagined: bool = False) -> Recipe:
    """`base`, whose artefacts it shares, followed by fine-tuning. `game` need not be one that `base` was trained on.

    Raises UsageError for an unknown game or no episode.
    """
    learned = base.pretrain
    return replace(
        base,
        finetune=FinetuneConfig(
            game=game,
            episodes=episodes,
            imagine=ImagineConfig() if imagined else None,
            commitment=learned.commitment,
            motion_gain=learned.motion_gain,
            random_shift=learned.random_shift,
            lpips_sha256=learned.lpips_sha256,
            lpips_file=learned.lpips_file,
            lpips_weight=learned.lpips_weight,
            loop=base.train.loop,
        ),
    )
