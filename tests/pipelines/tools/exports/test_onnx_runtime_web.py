"""The runtime is that very version, whatever brings it, or it is refused in a line."""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.tools.exports import onnx_runtime_web
from pipelines.tools.exports.onnx_runtime_web import FILES, PACKAGE, files_of


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_the_three_files_come_out_of_a_package_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {name: name.encode() for name in FILES}
    monkeypatch.setattr(
        onnx_runtime_web, "FILES", {name: hashlib.sha256(each).hexdigest() for name, each in data.items()}
    )
    inside = {f"package/dist/{name}": each for name, each in data.items()}
    found = files_of(packed(tmp_path / "a.tgz", inside | {"package/dist/../../evil": b"!", "package/README": b"!"}))
    assert found == data and list(tmp_path.iterdir()) == [tmp_path / "a.tgz"]
    del inside["package/dist/ort.wasm.min.mjs"]
    with pytest.raises(WorldlineError, match=rf"b\.tgz has another ort\.wasm\.min\.mjs than {PACKAGE}, or none"):
        files_of(packed(tmp_path / "b.tgz", inside))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    altered = packed(tmp_path / "c.tgz", {f"package/dist/{name}": b"mine" for name in FILES})
    with pytest.raises(WorldlineError, match="give that very version"):
        files_of(altered)
    (tmp_path / "d.tgz").write_bytes(altered.read_bytes()[:40])
    with pytest.raises(UsageError, match="cannot be read as a package"):
        files_of(tmp_path / "d.tgz")
    with pytest.raises(UsageError, match=r"nowhere\.tgz is not there: give the file that 'npm pack"):
        files_of(tmp_path / "nowhere.tgz")


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"npm is not here to fetch it: install Node.js, or run 'npm pack"):
        files_of(None)


@pytest.mark.parametrize("script", ["echo no network >&2; exit 1", "exit 0"])
def test_an_npm_that_brings_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    shell = shutil.which("sh")
    (tmp_path / "npm").write_text(f"#!{shell}\n{script}\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorldlineError, match=r"npm does not bring .* \((no network|it wrote no package)\)"):
        files_of(None)
