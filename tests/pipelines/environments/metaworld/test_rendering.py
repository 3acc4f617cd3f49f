"""What draws Meta-world's frames, and the one line where nothing does."""

import ctypes.util
import os
import subprocess
import sys

import pytest

from pipelines.environments.metaworld import rendering
from pipelines.errors import WorldlineError

MAKE = (
    "from pipelines.environments import registry\n"
    "from pipelines.errors import WorldlineError\n"
    "registry.spaces('reach', registry.protocol('metaworld'))\n"
    "try: registry.make('reach', [1], registry.protocol('metaworld'))\n"
    "except WorldlineError as error: print(type(error).__name__, error)"
)


def said(before: str = "", **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{before}\n{MAKE}"],
        capture_output=True, text=True, check=True, env=env | variables,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("package", ["mujoco", "metaworld"])
def test_without_a_package_one_line_says_how_to_get_it(package: str, metaworld_here: str) -> None:
    assert said(f"sys.modules['{package}'] = None") == (
        f"UsageError Meta-world is played in its package, and {package} is not installed: pip install "
        "'worldline[metaworld]'\n"
    )


def test_without_a_library_one_line_says_how_to_get_it(metaworld_here: str) -> None:
    """As on a machine that has none: neither this file's look nor PyOpenGL's finds it."""
    hidden = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    hidden += "import ctypes\nctypes.CDLL = lambda *a, **k: (_ for _ in ()).throw(OSError('none'))"
    assert said(hidden) == (
        "WorldlineError Nothing here draws Meta-world's frames without a screen: apt-get install libegl1 "
        "libgl1-mesa-dri draws on any processor (or libosmesa6, with MUJOCO_GL=osmesa)\n"
    )


@pytest.mark.parametrize("chosen", ["directx", "off"])
def test_what_mujoco_cannot_draw_with_is_one_line(chosen: str, metaworld_here: str) -> None:
    found = said(MUJOCO_GL=chosen)
    assert found.startswith(f"WorldlineError MuJoCo cannot draw through {chosen} (") and found.count("\n") == 1
    assert "): unset MUJOCO_GL; apt-get install" in found and found.endswith("(or libosmesa6, with MUJOCO_GL=osmesa)\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only there is a choice")
@pytest.mark.parametrize(
    ("given", "egl", "osmesa", "chosen"),
    [
        ("", True, True, "egl"),
        ("", False, True, "osmesa"),
        (" GLFW ", True, True, "glfw"),
        ("osmesa", True, False, "osmesa"),
    ],
)
def test_the_variable_is_respected_then_egl_then_osmesa(
    given: str, egl: bool, osmesa: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rendering.VARIABLE, given)
    monkeypatch.setattr(rendering, "_has_egl", lambda: egl)
    monkeypatch.setattr(rendering, "_has_osmesa", lambda: osmesa)
    assert rendering.backend() == chosen


def test_egl_without_a_device_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "no-such-library.so")
    assert not rendering._has_egl()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert not rendering._has_osmesa()


def test_no_library_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rendering.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("_has_egl", "_has_osmesa"):
        monkeypatch.setattr(rendering, name, lambda: False)
    with pytest.raises(WorldlineError, match="Nothing here draws Meta-world's frames"):
        rendering.backend()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert rendering.backend() == ""
