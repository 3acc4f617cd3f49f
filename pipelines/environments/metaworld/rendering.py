"""Pictures of MuJoCo's scenes without a screen, each environment with a renderer of its own.

Environments that share gymnasium's renderer draw into each other's pictures; here each has a context of OpenGL, which
is current while it draws and while it goes, and at no other time: another thread may go on with it. What draws is what
MUJOCO_GL says; else EGL, on a graphics card or on the processor; else OSMesa, on the processor. This is the one file
that imports `mujoco`, which reads that variable once.
Letters: H and W pixels.
"""

import atexit
import ctypes
import ctypes.util
import functools
import importlib.util
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.metaworld.game import UPSIDE_DOWN, MetaworldRules
from pipelines.environments.metaworld.meshes import coarser
from pipelines.errors import UsageError, WorldlineError

VARIABLE = "MUJOCO_GL"
INSTALL = "apt-get install libegl1 libgl1-mesa-dri draws on any processor (or libosmesa6, with MUJOCO_GL=osmesa)"
SCREENLESS = ("egl", "osmesa")
MOST_SHAPES = 10_000  # of a scene: the package's scenes have a few hundred


def backend() -> str:
    """Through which library MuJoCo draws: egl, osmesa, or what MUJOCO_GL says; empty where the system has its own.

    Raises WorldlineError where nothing is there that draws without a screen.
    """
    if given := os.environ.get(VARIABLE, "").strip().lower():
        return given
    if sys.platform != "linux":
        return ""
    for name, there in (("egl", _has_egl), ("osmesa", _has_osmesa)):
        if there():
            return name
    raise WorldlineError(f"Nothing here draws Meta-world's frames without a screen: {INSTALL}")


def _has_egl() -> bool:
    """Whether EGL knows a device to draw with; asked by hand, as PyOpenGL keeps to the library that it tried first."""
    try:
        library = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
    except OSError:
        return False
    library.eglGetProcAddress.restype = ctypes.c_void_p
    found = library.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not found:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(found)
    count = ctypes.c_int(0)
    return bool(query(0, None, ctypes.byref(count))) and count.value > 0


def _has_osmesa() -> bool:
    return bool(ctypes.util.find_library("OSMesa"))


@functools.cache
def mujoco() -> Any:
    """The package. Raises UsageError where it is not installed, WorldlineError where it finds no OpenGL."""
    if importlib.util.find_spec("mujoco") is None:
        raise missing("mujoco")
    if chosen := backend():
        os.environ[VARIABLE] = chosen
    try:
        import mujoco
    except Exception as error:  # of PyOpenGL, by what a library lacks
        raise _cannot_draw(error) from error
    return mujoco


def missing(module: str | None) -> UsageError:
    """The one line about a package that is not installed, by the module that was looked for."""
    package = str(module).partition(".")[0]
    return UsageError(
        f"Meta-world is played in its package, and {package} is not installed: pip install 'worldline[metaworld]'"
    )


def _cannot_draw(error: Exception) -> WorldlineError:
    chosen = os.environ.get(VARIABLE, "") or "the system's OpenGL"
    unset = "" if chosen in SCREENLESS else f"unset {VARIABLE}; "
    return WorldlineError(f"MuJoCo cannot draw through {chosen} ({type(error).__name__}: {error}): {unset}{INSTALL}")


def _context(size: int) -> Any:
    """A context of OpenGL. Raises WorldlineError where there is none to be had."""
    try:
        return mujoco().GLContext(size, size)
    except WorldlineError:
        raise
    except Exception as error:
        raise _cannot_draw(error) from error


@contextmanager
def _current(context: Any) -> Iterator[None]:
    """Draw into this context, and let go of it: EGL refuses one that is current in another thread."""
    context.make_current()
    try:
        yield
    finally:
        if os.environ.get(VARIABLE) == "egl":
            egl = importlib.import_module("mujoco.egl")
            nothing = egl.EGL.EGL_NO_SURFACE
            egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, nothing, nothing, egl.EGL.EGL_NO_CONTEXT)


@functools.cache
def drawn_by() -> str:
    """What draws, in its own words, such as "egl: llvmpipe (LLVM 15.0.6, 256 bits)". Raises as `Renderer`."""
    context = _context(8)
    try:
        from OpenGL import GL

        with _current(context):
            name = GL.glGetString(GL.GL_RENDERER)
    finally:
        context.free()
    return f"{os.environ.get(VARIABLE, '') or 'native'}: {name.decode(errors='replace') if name else 'unnamed'}"


_open: "weakref.WeakSet[Renderer]" = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Before EGL's own end, which is registered when the first context is made: what is freed after it throws."""
    atexit.register(_close_all)


def _close_all() -> None:
    for each in list(_open):
        each.close()


class Renderer:
    """Draws the scenes of one model as `rules` say, H = W = `size` pixels (the rules' own where that is 0).

    The model's settings of quality are set to the rules'; its physics are not touched. Raises WorldlineError where
    nothing is there to draw with.
    """

    def __init__(self, model: Any, rules: MetaworldRules, size: int = 0) -> None:
        library = mujoco()
        self._model, self._size = model, size or rules.size
        model.vis.quality.shadowsize, model.vis.quality.offsamples = rules.shadows, rules.samples
        model.vis.global_.offwidth = model.vis.global_.offheight = self._size
        self._scene = library.MjvScene(model, MOST_SHAPES)
        self._scene.flags[library.mjtRndFlag.mjRND_SHADOW] = rules.shadows > 0
        self._scene.flags[library.mjtRndFlag.mjRND_REFLECTION] = rules.reflections
        self._options, self._rectangle = library.MjvOption(), library.MjrRect(0, 0, self._size, self._size)
        self._context: Any = _context(self._size)
        try:
            with _current(self._context), coarser(model, rules.detail):
                self._drawing: Any = library.MjrContext(model, library.mjtFontScale.mjFONTSCALE_150.value)
                library.mjr_setBuffer(library.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        except Exception as error:
            self._context.free()
            raise _cannot_draw(error) from error
        _open.add(self)
        _close_at_exit()

    def picture(self, data: Any, camera: str) -> NDArray[np.uint8]:
        """What a camera of that name sees, (H, W, 3), upright."""
        library = mujoco()
        view = library.MjvCamera()
        view.type, view.fixedcamid = library.mjtCamera.mjCAMERA_FIXED, self._model.camera(camera).id
        everything = library.mjtCatBit.mjCAT_ALL.value
        library.mjv_updateScene(self._model, data, self._options, None, view, everything, self._scene)
        found = np.empty((self._size, self._size, 3), np.uint8)
        with _current(self._context):
            library.mjr_render(self._rectangle, self._scene, self._drawing)
            library.mjr_readPixels(found, None, self._rectangle, self._drawing)  # the lowest row first
        return found if camera in UPSIDE_DOWN else found[::-1].copy()

    def close(self) -> None:
        """Free what it holds, of this context alone; a second time does nothing."""
        if self._context is None:
            return
        with _current(self._context):  # else what it frees is another's
            self._drawing.free()
        self._context.free()
        self._context = self._drawing = None
        _open.discard(self)
