"""Sources are found by their layout, which never changes the key of what DQN-Replay's layout made before it had one."""

from dataclasses import fields

import pytest

from pipelines.errors import UsageError
from pipelines.sources.source import LAYOUTS, source_of
from pipelines.stages.fetch import FetchConfig


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_a_source(layout: str) -> None:
    found = source_of(layout)
    assert found.holds.startswith("GAME/")
    assert found is source_of(layout)


def test_an_unknown_layout_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown layout 'dqn-replay': did you mean 'dqn_replay'\?"):
        source_of("dqn-replay")


def test_the_layout_counts_where_it_is_another_than_the_first() -> None:
    plain = FetchConfig("Pong", 1, url="gs://a/b", listing="0" * 64)
    assert "layout" not in plain.spec().config and plain.layout == "dqn_replay"
    other = FetchConfig("Pong", 1, url="gs://a/b", listing="0" * 64, layout="rl_unplugged")
    assert other.spec().config["layout"] == "rl_unplugged" and other.spec().key != plain.spec().key
    assert FetchConfig.filled_by("source") == {"url", "listing", "layout"} < {each.name for each in fields(plain)}
