"""The one-hour recipe: data that betray no player by an odd action, and a Q that a search can use."""

from pipelines.recipes.freeway_boxing import freeway_boxing


def test_exploration_never_changes_within_the_data() -> None:
    collect = freeway_boxing().collect
    assert collect.epsilon_start == collect.epsilon_end > 0


def test_q_starts_without_a_bias_and_is_penalised_as_in_the_paper() -> None:
    model = freeway_boxing().pretrain.networks.model
    assert model.value_min == -model.value_max
    assert model.cql_weight == type(model)().cql_weight


def test_search_plays_as_long_and_as_often_as_greedy_and_random() -> None:
    evaluate = freeway_boxing().evaluate
    assert evaluate.episodes == evaluate.beam_episodes == evaluate.random_episodes >= 16
    assert evaluate.beam_steps == evaluate.max_steps == 0
