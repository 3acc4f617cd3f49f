"""ONNX Runtime for browsers, out of its npm package: the three files that a page without threads or a GPU needs.

The package is fetched by `npm pack`, or given as a file. Its version is fixed here, and so are the files' hashes:
whatever brings them, a page gets these bytes or none. Licence: MIT, in the package's own README and files.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pipelines.errors import UsageError, WorldlineError
from pipelines.redact import one_line

PACKAGE = "onnxruntime-web@1.30.0"

FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}

LARGEST = 1 << 26  # bytes of one file

SECONDS = 300.0  # for npm


def files_of(package: Path | None) -> dict[str, bytes]:
    """The files by name, out of the package that npm packed, or is asked to pack now.

    Raises UsageError where there is neither npm nor a package, WorldlineError where npm fails, or files are others.
    """
    if package is not None:
        return _unpacked(package)
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(
            f"A page needs {PACKAGE}, and npm is not here to fetch it: install Node.js, or run 'npm pack {PACKAGE}' "
            "elsewhere and give its file as --runtime FILE.tgz"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts", "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder, check=False)
        except subprocess.TimeoutExpired as error:
            raise WorldlineError(f"npm did not bring {PACKAGE} in {SECONDS:.0f} s: check the network") from error
        found = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            told = one_line(done.stderr)[-200:] or "it wrote no package"
            raise WorldlineError(
                f"npm does not bring {PACKAGE} ({told}): check the network, or give --runtime FILE.tgz"
            )
        return _unpacked(found[0])


def _unpacked(package: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("package/dist/")
                if name in FILES and member.isfile() and member.size <= LARGEST:
                    files[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except FileNotFoundError as error:
        raise UsageError(f"--runtime {package} is not there: give the file that 'npm pack {PACKAGE}' wrote") from error
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(
            f"--runtime {package} cannot be read as a package ({one_line(error)[:100]}): give the file that 'npm pack "
            f"{PACKAGE}' wrote"
        ) from error
    for name, digest in FILES.items():
        if hashlib.sha256(files.get(name, b"")).hexdigest() != digest:
            raise WorldlineError(f"{package.name} has another {name} than {PACKAGE}, or none: give that very version")
    return files
