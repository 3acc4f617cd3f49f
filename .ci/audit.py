"""Asks the public list of vulnerabilities about every pinned package: `make audit`, and CI after the tests.

Fails where one is known that is not in ACCEPTED, and where pip-audit itself breaks. Where nobody answers (no network, a
mirror without that list), it says how many packages could not be asked, and passes: an audit that did not take place is
told, not taken for a clean one.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PINNED = Path(__file__).resolve().parents[1] / "constraints.txt"
PATIENCE = 240  # seconds
UNREACHED = re.compile(  # how pip-audit ends where the list cannot be reached; any other end is a fault
    r"^requests\.exceptions\.(ConnectionError|ProxyError|ConnectTimeout|ReadTimeout)\b"
    r"|^requests\.exceptions\.HTTPError: 5\d\d |Could not connect to PyPI|PyPI is not redirecting properly",
    re.MULTILINE,
)
ACCEPTED: dict[str, str] = {}  # a vulnerability's id -> why it does not touch us


def verdict(found: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What to print of pip-audit's entries, a line each, and the exit code."""
    lines, unasked = [], [entry["name"] for entry in found if "vulns" not in entry]
    for entry in found:
        for known in entry.get("vulns", []):
            if known["id"] in ACCEPTED:
                lines.append(f"accepted: {entry['name']} {entry['version']}: {known['id']}: {ACCEPTED[known['id']]}")
            else:
                fixed = ", ".join(known.get("fix_versions", [])) or "no version yet"
                lines.append(f"VULNERABLE: {entry['name']} {entry['version']}: {known['id']}, mended in {fixed}")
    lines.append(f"Audited {len(found) - len(unasked)} of {len(found)} pinned packages; {len(unasked)} not asked.")
    return lines, int(any(line.startswith("VULNERABLE") for line in lines))


def no_answer(stderr: str, returncode: int) -> int:
    """Say why pip-audit gave no list; 0 where the network is to blame, 1 where it broke."""
    last = (stderr.strip().splitlines() or [f"exit code {returncode}, without a word"])[-1][:200]
    if UNREACHED.search(stderr):
        print(f"Audited nothing, the list cannot be reached: {last}")
        return 0
    print(f"AUDIT BROKEN, nothing was audited: {last} (run 'make setup' again, or see '{sys.executable} -m pip_audit')")
    return 1


def main() -> int:
    """Run it on the constraints file."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINNED), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        entries = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"Audited nothing: no answer in {PATIENCE} s.")
        return 0
    except (ValueError, KeyError, TypeError):
        return no_answer(done.stderr, done.returncode)
    lines, code = verdict(entries)
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
