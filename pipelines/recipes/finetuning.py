"""Fine-tuning as derived recipes: the same training, then the same networks on the best episodes of one game.

`worldline finetune EXPERIMENT --game Pong` derives one from an experiment; the paper's have names of their own.
Source: JOWA (arXiv 2410.00564), its section on fine-tuning; the numbers are FinetuneConfig's.
"""

from dataclasses import replace

from pipelines.configs.finetune import FinetuneConfig, ImagineConfig
from pipelines.recipes.jowa import jowa_40m, jowa_70m, jowa_150m
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


def jowa_40m_finetune() -> Recipe:
    """JOWA-40M, then on four episodes of Pong, which it never saw; --set finetune.game=Gravitar takes another."""
    return _on_pong(jowa_40m())


def jowa_70m_finetune() -> Recipe:
    """JOWA-70M, fine-tuned like jowa_40m_finetune."""
    return _on_pong(jowa_70m())


def jowa_150m_finetune() -> Recipe:
    """JOWA-150M, fine-tuned like jowa_40m_finetune."""
    return _on_pong(jowa_150m())


def jowa_40m_imagined() -> Recipe:
    """jowa_40m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_40m_finetune())


def jowa_70m_imagined() -> Recipe:
    """jowa_70m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_70m_finetune())


def jowa_150m_imagined() -> Recipe:
    """jowa_150m_finetune with imagined segments in its batches."""
    return _with_imagination(jowa_150m_finetune())


def _on_pong(base: Recipe) -> Recipe:
    """`base` keeps its name in the stages that it shares: they are the same artefacts."""
    return finetuned(base, "Pong")


def _with_imagination(recipe: Recipe) -> Recipe:
    assert recipe.finetune is not None, "it derives from a fine-tuning"
    return replace(recipe, finetune=replace(recipe.finetune, imagine=ImagineConfig()))
