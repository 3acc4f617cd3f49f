"""All recipes by name. A recipe is a function that returns a complete frozen config."""

from collections.abc import Callable, Iterable

from pipelines.errors import unknown
from pipelines.graph.config_io import override
from pipelines.graph.recipe import Recipe
from pipelines.recipes import iris_thesis as thesis
from pipelines.recipes import jowa as finetuning
from pipelines.recipes import rem as ablations
from pipelines.recipes import video
from pipelines.recipes.delta_iris import delta_iris_atari, delta_iris_crafter, delta_iris_freeway, delta_iris_mini
from pipelines.recipes.demo import demo, mini
from pipelines.recipes.freeway_boxing import freeway_boxing
from pipelines.recipes.iris import iris, iris_mini, iris_offline
from pipelines.recipes.jowa import jowa_40m, jowa_70m, jowa_150m
from pipelines.recipes.rem import rem
from pipelines.recipes.simulus import simulus

RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "mini": mini,
    "freeway_boxing": freeway_boxing,
    "iris": iris,
    "iris_gpt2": thesis.iris_gpt2,
    "iris_gpt2_pretrained": thesis.iris_gpt2_pretrained,
    "iris_gpt2_frozen": thesis.iris_gpt2_frozen,
    "iris_gpt2_frozen_but_last": thesis.iris_gpt2_frozen_but_last,
    "iris_gpt2_medium_frozen": thesis.iris_gpt2_medium_frozen,
    "iris_gpt2_large_frozen": thesis.iris_gpt2_large_frozen,
    "iris_ncp_tokens": thesis.iris_ncp_tokens,
    "iris_ncp_frames": thesis.iris_ncp_frames,
    "iris_value_critic": thesis.iris_value_critic,
    "iris_fixed_tokenizer": thesis.iris_fixed_tokenizer,
    "iris_oracle": thesis.iris_oracle,
    "iris_noise": thesis.iris_noise,
    "iris_offline": iris_offline,
    "iris_mini": iris_mini,
    "rem": rem,
    "rem_4x4": ablations.rem_4x4,
    "rem_no_pop": ablations.rem_no_pop,
    "rem_separate_embeddings": ablations.rem_separate_embeddings,
    "rem_no_action_inputs": ablations.rem_no_action_inputs,
    "rem_pixel_critic": ablations.rem_pixel_critic,
    "rem_freeway": ablations.rem_freeway,
    "delta_iris_atari": delta_iris_atari,
    "delta_iris_crafter": delta_iris_crafter,
    "delta_iris_mini": delta_iris_mini,
    "delta_iris_freeway": delta_iris_freeway,
    "simulus": simulus,
    "dreamerv2": video.dreamerv2,
    "apv_pretrain": video.apv_pretrain,
    "apv": video.apv,
    "contextwm_pretrain": video.contextwm_pretrain,
    "contextwm": video.contextwm,
    "prelar_pretrain": video.prelar_pretrain,
    "prelar": video.prelar,
    "prelar_soft": video.prelar_soft,
    "prelar_no_cl": video.prelar_no_cl,
    "prelar_no_al_cl": video.prelar_no_al_cl,
    "prelar_naive": video.prelar_naive,
    "naive": video.naive,
    "dreamerv2_mini": video.dreamerv2_mini,
    "prelar_mini": video.prelar_mini,
    "prelar_mini_scratch": video.prelar_mini_scratch,
    "jowa_40m": jowa_40m,
    "jowa_70m": jowa_70m,
    "jowa_150m": jowa_150m,
    "jowa_40m_finetune": finetuning.jowa_40m_finetune,
    "jowa_70m_finetune": finetuning.jowa_70m_finetune,
    "jowa_150m_finetune": finetuning.jowa_150m_finetune,
    "jowa_40m_imagined": finetuning.jowa_40m_imagined,
    "jowa_70m_imagined": finetuning.jowa_70m_imagined,
    "jowa_150m_imagined": finetuning.jowa_150m_imagined,
}


AGAINST = {"prelar_mini": "prelar_mini_scratch"}
"""By recipe, the one that `worldline demo` makes too, to show what the difference between them is worth"""


def recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """The named recipe with `field.path=value` overrides. Raises UsageError for an unknown name, field or value."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, "'worldline recipe list' describes them")
    return override(RECIPES[name](), *overrides)
