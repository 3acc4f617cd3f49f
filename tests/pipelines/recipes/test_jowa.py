"""The paper's recipes: sizes, games and schedule as published, and that a plan can be made of them."""

import json

import pytest

from pipelines.environments.atari.games import GAMES
from pipelines.graph.config_io import from_plain, to_plain
from pipelines.graph.experiment import Experiment
from pipelines.graph.recipe import Recipe
from pipelines.recipes.jowa import BORROWED_TASKS, TRAINING_GAMES, finetuned, jowa_40m, jowa_70m, jowa_150m
from pipelines.recipes.registry import RECIPES
from pipelines.training.schedule import Use


@pytest.mark.parametrize(
    ("recipe", "layers", "heads", "width", "q_heads", "q_hidden"),
    [
        (jowa_40m(), 4, 8, 512, 1, 768),
        (jowa_70m(), 6, 12, 768, 1, 1024),
        (jowa_150m(), 12, 12, 768, 3, 1792),
    ],
)
def test_sizes_are_the_papers(recipe: Recipe, layers: int, heads: int, width: int, q_heads: int, q_hidden: int) -> None:
    model = recipe.pretrain.networks.model
    assert (model.layers, model.heads, model.width) == (layers, heads, width)
    assert (model.num_q, model.q_hidden) == (q_heads, q_hidden)
    assert recipe.pretrain.networks.tokenizer.tokens_per_frame == model.tokens_per_frame == 36


def test_held_out_games_borrow_the_task_embedding_of_a_game_like_them() -> None:
    borrowed = {GAMES[game]: GAMES[lender] for game, lender in jowa_150m().pretrain.networks.model.task_ids}
    assert borrowed == BORROWED_TASKS and set(borrowed) == {"Gravitar", "MsPacman", "Robotank", "YarsRevenge"}
    assert set(borrowed.values()) <= set(TRAINING_GAMES)


def test_the_schedule_is_1_75_million_steps_of_512_segments() -> None:
    recipe = jowa_150m()
    phases = (*recipe.pretrain.phases, *recipe.train.phases)
    assert sum(phase.steps for phase in phases) == 1_750_000
    assert {use.batch for phase in phases for use in phase.uses if use.name != "tokenizer"} == {512}
    assert recipe.games == TRAINING_GAMES
    assert recipe.downsample.transitions == 10_000_000 and recipe.source == "bucket"


@pytest.mark.parametrize("recipe", [jowa_40m(), jowa_70m(), jowa_150m()], ids=lambda recipe: recipe.name)
def test_every_other_number_is_the_papers(recipe: Recipe) -> None:
    model, tokenizer = recipe.pretrain.networks.model, recipe.pretrain.networks.tokenizer
    assert (model.vocab_size, model.max_steps, model.num_actions, model.num_games) == (2048, 8, 18, 60)
    assert (model.atoms, model.value_min, model.value_max, model.gamma) == (51, -10.0, 30.0, 0.99)
    assert (model.dropout, model.q_dropout, model.embedding_std) == (0.1, 0.01, 0.02)
    assert (model.cql_weight, model.world_weight, model.critic, model.penalty) == (0.1, 0.1, "c51", "cql")
    assert model.task_embedding and model.q_trains_trunk and not model.random_mixture and not model.factored_positions
    assert (tokenizer.vocab_size, tokenizer.embed_dim, tokenizer.z_channels, tokenizer.channels) == (2048, 512, 512, 64)
    assert (tokenizer.downsample, tokenizer.res_blocks, tokenizer.norm_groups) == ((7, 2), 2, 2)
    assert (recipe.pretrain.networks.commitment, recipe.pretrain.networks.motion_gain) == (1.0, 0.0)
    [stage_1], [stage_2] = recipe.pretrain.phases, recipe.train.phases
    assert stage_1.steps == 250_000
    assert stage_1.uses == (Use("tokenizer", 2048, lr=1e-4), Use("world", 512, lr=1e-4))
    assert stage_2.uses == (Use("world_action", 512, lr=5e-5, target_every=1000),)
    for phase in (stage_1, stage_2):
        assert (phase.weight_decay, phase.clip, phase.warmup, phase.decay) == (0.01, 1.0, 0, False)
    assert (recipe.segment.length, recipe.segment.stride, recipe.segment.padding) == (8, 4, "right")
    assert (recipe.evaluate.protocol, recipe.evaluate.episodes, recipe.evaluate.epsilon) == ("jowa", 16, 0.001)
    assert recipe.evaluate.settings == recipe.name


def test_stage_2_is_played_by_16_environments_and_keeps_the_last_and_the_best_five() -> None:
    loop = jowa_40m().train.loop
    assert 0 < loop.evaluate_every <= jowa_40m().train.phases[0].steps // 10
    assert (loop.evaluate_episodes, loop.evaluate_steps, loop.keep_last, loop.keep_best) == (16, 0, 5, 5)


def test_fine_tuning_is_the_papers() -> None:
    recipe = finetuned(jowa_150m(), "Pong", imagined=True)
    assert recipe.finetune is not None and recipe.finetune.imagine is not None
    [phase], dreams = recipe.finetune.phases, recipe.finetune.imagine
    assert phase.steps == 50_000
    assert phase.uses == (Use("tokenizer", 128, lr=1e-4), Use("world_action", 32, lr=5e-5))
    assert (recipe.finetune.world_weight, recipe.finetune.stride) == (0.5, 1)
    assert (dreams.after, dreams.segments, dreams.width, dreams.horizon) == (20_000, 16, 2, 2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_read_back_has_the_key_it_was_registered_with(name: str) -> None:
    recipe = RECIPES[name]()
    again = from_plain(Recipe, json.loads(json.dumps(to_plain(recipe))))
    assert Experiment("mine", again).key == Experiment("mine", recipe).key
