"""Whether phases, networks and games of a training fit each other: what is refused before anything runs."""

import re
from dataclasses import replace

import pytest

from models.iris.config import IrisConfig
from models.jowa.config import JowaAgentConfig
from models.jowa.family import JOWA
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import UsageError
from pipelines.training.schedule import Phase, Use
from pipelines.training.training_config import check_phases, require_actions
from tests.models.dreamer.small_dreamer import CONFIGS
from tests.pipelines.environments.toy_arm import GAME, known

WORLD = (Use("world", 8),)


def test_phases_are_held_against_their_family() -> None:
    config = JowaAgentConfig(tokenizer=TokenizerConfig(quantizer="ema"))

    def refused(words: str, *phases: Phase) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            check_phases(phases, JOWA, config)

    refused("Unknown objective of phase 'p' 'wrold': did you mean 'world'?", Phase("p", 1, (Use("wrold", 8),)))
    both = Phase("p", 1, (Use("world", 8), Use("world_action", 8)))
    refused("Phase 'p': objectives world, world_action train the same network ('model'), name one of them", both)
    refused(
        "Phases same, same share a name: give each one of its own", Phase("same", 1, WORLD), Phase("same", 2, WORLD)
    )
    parts = Phase("p", 1, (Use("tokenizer", 8),), accumulate=2)
    refused("Phase 'p' has accumulate 2, but an EMA codebook follows whole batches", parts)
    check_phases([Phase("p", 1, (Use("tokenizer", 8), *WORLD))], JOWA, config)


def test_agents_that_do_not_fit_the_actions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)
    networks = CONFIGS["dreamerv2"]
    require_actions(networks, GAME)
    with pytest.raises(UsageError, match=r"says 3 from -1 to 1: set learn\.actions=2"):
        require_actions(replace(networks, actions=3), GAME)
    with pytest.raises(UsageError, match=r"Pong is played with 18 actions, .* says 2 numbers an action"):
        require_actions(networks, "Pong")
    with pytest.raises(UsageError, match=r"2 numbers an action, .*'iris' chooses among actions.*dreamer"):
        require_actions(IrisConfig(), GAME)
