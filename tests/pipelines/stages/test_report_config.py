"""What a leaderboard may be made from."""

import pytest

from pipelines.errors import UsageError
from pipelines.stages.report import ReportConfig
from pipelines.store.ref import Ref

SCORE = Ref("scores", "Freeway", "0" * 16)


def test_scores_are_parents_and_names_are_config():
    spec = ReportConfig(scores=(SCORE,), names=("demo-1a2b3c4d",)).spec()
    assert spec.parents == (SCORE,)
    assert spec.config == {"names": ["demo-1a2b3c4d"]}
    assert str(spec.ref).startswith("leaderboard/all/")


def test_another_name_gives_another_key():
    keys = {ReportConfig(scores=(SCORE,), names=(name,)).spec().key for name in ("a", "b")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("scores", "names", "words"),
    [
        ((), (), "no scores"),
        ((SCORE,), (), "1 scores and 0 experiment names"),
        ((Ref("tokens", "Freeway", "1"),), ("a",), "begin with scores/"),
    ],
)
def test_refusals(scores, names, words):
    with pytest.raises(UsageError, match=words):
        ReportConfig(scores=scores, names=names)
