"""`worldline forecast` prints a table, the sums and the commands; bad rates are one line."""

import json

import pytest

from pipelines.cli import run
from tests.pipelines.conftest import TinyRun


def test_a_table_with_sums_and_the_commands_that_do_it(
    tiny: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny.home))
    assert (
        run(["forecast", "--recipe", "jowa_40m", "--games", "pong", "--rate", "tokens=9000", "--gpu-price", "3"]) == 0
    )
    printed = capsys.readouterr().out
    assert "not in the sums: pretrained, world_action_model, scores" in printed
    assert "10,000,000 frames" in printed and "9,000/s" in printed
    assert "worldline experiment new my_jowa_40m --recipe jowa_40m --set games=Pong" in printed
    assert run(["forecast", "--recipe", "mini", "--games", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["games"] == 60 and found["total"]["hours"] > 0


@pytest.mark.parametrize("given", ["tokens", "tokens=fast", "tokens=-1", "token=3"])
def test_a_rate_that_is_none_is_one_line(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["forecast", "--recipe", "mini", "--rate", given]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
