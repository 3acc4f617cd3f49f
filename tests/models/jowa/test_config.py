import subprocess
import sys

import pytest

from models.jowa.config import JowaConfig


def test_a_step_is_a_frame_and_an_action() -> None:
    assert JowaConfig().tokens_per_step == 37 and JowaConfig().max_tokens == 296


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "at least 1"),
        ({"width": 65, "heads": 2}, "does not divide into 2 heads"),
        ({"atoms": 1}, "at least 2"),
        ({"value_min": 30.0}, "no support"),
        ({"dropout": 1.0}, "below 1"),
        ({"gamma": 1.5}, "from 0 to 1"),
        ({"cql_weight": -1.0}, "model.cql_weight -1.0 is impossible: it must be at least 0"),
        ({"critic": "dqn"}, "model.critic 'dqn' is unknown: choose from c51, mse"),
        ({"penalty": "sac"}, "choose from cql, combo, none"),
        ({"task_ids": ((1, 60),)}, "pairs of games in 0..59"),
        ({"task_ids": ((1, 2), (1, 3))}, "each borrower once"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JowaConfig(**fields)  # type: ignore[arg-type]


def test_the_config_imports_no_torch() -> None:
    code = "import sys, models.jowa.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
