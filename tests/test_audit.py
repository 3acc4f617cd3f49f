"""The audit fails for a known vulnerability, and says what it could not ask."""

import importlib.util
from types import ModuleType

import pytest

from tests.fakes import ROOT

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNASKED = {"name": "torch", "skip_reason": "not found"}
BAD = {"name": "pyyaml", "version": "5.3", "vulns": [{"id": "CVE-2020-14343", "fix_versions": ["5.4"]}]}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_known_vulnerability_fails_unless_it_is_accepted(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, code = audit.verdict([CLEAN, BAD])
    assert code == 1 and lines[0] == "VULNERABLE: pyyaml 5.3: CVE-2020-14343, mended in 5.4"
    monkeypatch.setitem(audit.ACCEPTED, "CVE-2020-14343", "nothing is loaded unsafely")
    assert audit.verdict([CLEAN, BAD])[1] == 0


def test_what_could_not_be_asked_is_counted(audit: ModuleType) -> None:
    assert audit.verdict([CLEAN, UNASKED]) == (["Audited 1 of 2 pinned packages; 1 not asked."], 0)


@pytest.mark.parametrize("printed", ["", "no json", "{}"])
def test_no_answer_is_no_failure_and_no_clean_bill(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], printed: str
) -> None:
    class Done:
        stdout, stderr, returncode = printed, "ERROR: no network", 1

    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: Done)
    assert audit.main() == 0
    assert capsys.readouterr().out == "Audited nothing: ERROR: no network\n"
