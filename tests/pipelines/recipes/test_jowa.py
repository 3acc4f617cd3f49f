"""The paper's recipes: sizes, games and schedule as published, and that a plan can be made of them."""

import pytest

from pipelines.atari.games import GAMES, JOWA_HELD_OUT, JOWA_TRAINING
from pipelines.recipes.jowa import BORROWED_TASKS, jowa_40m, jowa_70m, jowa_150m
from pipelines.recipes.recipe import Recipe


@pytest.mark.parametrize(
    ("recipe", "layers", "heads", "width", "q_heads", "q_hidden"),
    [
        (jowa_40m(), 4, 8, 512, 1, 768),
        (jowa_70m(), 6, 12, 768, 1, 1024),
        (jowa_150m(), 12, 12, 768, 3, 1792),
    ],
)
def test_sizes_are_the_papers(recipe: Recipe, layers: int, heads: int, width: int, q_heads: int, q_hidden: int) -> None:
    model = recipe.pretrain.model
    assert (model.layers, model.heads, model.width) == (layers, heads, width)
    assert (model.num_q, model.q_hidden) == (q_heads, q_hidden)
    assert recipe.pretrain.tokenizer.tokens_per_frame == model.tokens_per_frame == 36


def test_held_out_games_borrow_the_task_embedding_of_a_game_like_them() -> None:
    borrowed = {GAMES[game]: GAMES[lender] for game, lender in jowa_150m().pretrain.model.task_ids}
    assert borrowed == BORROWED_TASKS and set(borrowed) == set(JOWA_HELD_OUT) - {"Pong"}
    assert set(borrowed.values()) <= set(JOWA_TRAINING)


def test_the_schedule_is_1_75_million_steps_of_512_segments() -> None:
    recipe = jowa_150m()
    phases = (*recipe.pretrain.phases, *recipe.train.phases)
    assert sum(phase.steps for phase in phases) == 1_750_000
    assert {phase.segments for phase in phases} == {512}
    assert recipe.games == JOWA_TRAINING
    assert recipe.downsample.transitions == 10_000_000 and recipe.source == "bucket"
