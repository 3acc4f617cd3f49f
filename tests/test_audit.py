"""The audit fails for a known vulnerability and where its tool breaks, and says what it could not ask."""

import importlib.util
from pathlib import Path
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


UNREACHABLE = (
    "requests.exceptions.ProxyError: HTTPSConnectionPool(host='list.invalid', port=443): Max retries exceeded",
    "requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'reset'))",
    "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='list.invalid', port=443): Read timed out.",
    "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable\n\npip_audit._service.interface.ServiceError",
    "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\nERROR:pip_audit._cli:Tip: your network may",
)
BROKEN = (
    "No module named pip_audit",
    "ERROR:pip_audit._cli:requirement numpy is not pinned",
    "Traceback (most recent call last):\nTypeError: unsupported operand",
    "requests.exceptions.SSLError: certificate verify failed",
    "",
)


def answered(monkeypatch: pytest.MonkeyPatch, audit: ModuleType, stdout: str, stderr: str) -> None:
    class Done:
        returncode = 1

    Done.stdout, Done.stderr = stdout, stderr
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: Done)


@pytest.mark.parametrize("stderr", UNREACHABLE)
def test_a_list_out_of_reach_is_no_failure_and_no_clean_bill(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stderr: str
) -> None:
    answered(monkeypatch, audit, "", f"Traceback (most recent call last):\n{stderr}\n")
    assert audit.main() == 0
    assert capsys.readouterr().out == f"Audited nothing, the list cannot be reached: {stderr.splitlines()[-1]}\n"


@pytest.mark.parametrize("stdout", ["", "no json", "{}", "[]"])
@pytest.mark.parametrize("stderr", BROKEN)
def test_an_audit_that_breaks_fails_and_says_how(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdout: str, stderr: str
) -> None:
    answered(monkeypatch, audit, stdout, stderr)
    assert audit.main() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("AUDIT BROKEN, nothing was audited: ") and printed.count("\n") == 1
    assert (stderr.splitlines() or ["exit code 1, without a word"])[-1] in printed


def test_the_real_tool_breaks_on_a_file_without_pins(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(audit, "PINNED", tmp_path / "constraints.txt")
    audit.PINNED.write_text("numpy\n")
    assert audit.main() == 1
    assert "numpy is not pinned" in capsys.readouterr().out
