"""How the kernels are compiled: when they are first needed, once for each dtype, and remembered on the disk.

`compiled` is numba's `njit` with the options of this package. numba keeps its machine code in files (`cache=True`), which
raises an error where neither the package's folder nor the user's cache folder can be written: then the code goes to a
private folder among the temporary files, or is not kept at all. numba looks only at the file of a function to see whether
its saved code is stale; here the folder's name contains a digest of all kernel files, because the kernels inline each other.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import config, event

OPTIONS = {
    "nogil": True,                # other Python threads run meanwhile
    "error_model": "numpy",       # x / 0 is inf, not an exception
    "fastmath": {"contract"},     # a * b + c in one instruction. Nothing that assumes "no inf, no nan": scores may be -inf
}


def compiled(function: Callable, **options: Any) -> Callable:
    """Compile a function that other kernels call; it becomes part of them, so it needs no cache of its own."""
    dispatcher = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS | options)(function)
    if not config.DISABLE_JIT:
        # numba would compile f(0), f(1) and f(n) three times, for the type of a constant is "literal 0"
        choose = dispatcher.get_call_template
        dispatcher.get_call_template = lambda args, kws: choose([_without_value(a) for a in args], kws)
    return dispatcher


def inlined(function: Callable) -> Callable:
    """The same for a short function in an inner loop: copied to where it is called, whatever the compiler thinks of that."""
    return compiled(function, forceinline=True)


def compiled_sum(function: Callable) -> Callable:
    """The same for a function that adds up one row: in any order, so that 8 or 16 partial sums can grow side by side."""
    return compiled(function, fastmath=OPTIONS["fastmath"] | {"reassoc"})


def _without_value(type_: types.Type) -> types.Type:
    """Words stay constants: they choose between ways to compute, and only the chosen one is compiled."""
    return type_ if isinstance(type_, types.StringLiteral) else types.unliteral(type_)


class Kernel:
    """A function that Python calls: compiled on its first call with a new dtype, and cached between processes.

    Arrays may have any strides: all are compiled as numba's layout "A", so that contiguous and
    transposed arrays share one machine code. Arrays that are read-only, such as the inputs, must always be so.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.entry_points: dict[tuple, Callable] = {}
        self.dispatcher = None if config.DISABLE_JIT else _with_cache(numba.njit(no_cfunc_wrapper=True, **OPTIONS)(function))

    def __call__(self, *arguments: Any) -> Any:
        return self.for_arguments(arguments)(*arguments)

    def for_arguments(self, arguments: tuple) -> Callable:
        """The machine code for arguments of these types, without the search through overloads that numba does at each call."""
        if self.dispatcher is None:
            return self.function
        key = tuple([(a.dtype, a.ndim) if isinstance(a, np.ndarray) else type(a) for a in arguments])
        entry_point = self.entry_points.get(key)
        if entry_point is None:
            signature = tuple(_type_of(a) for a in arguments)
            with _announced():
                try:
                    entry_point = self.dispatcher.compile(signature)
                except Exception:                                        # the disk is full, or gone, or a saved file is broken:
                    self.dispatcher = numba.njit(no_cfunc_wrapper=True, **OPTIONS)(self.function)
                    entry_point = self.dispatcher.compile(signature)     # without files, then; a real mistake shows up again
            self.entry_points[key] = entry_point
        return entry_point


def _type_of(argument: Any) -> types.Type:
    if isinstance(argument, np.ndarray):
        return types.Array(numba.from_dtype(argument.dtype), argument.ndim, "A", readonly=not argument.flags.writeable)
    return types.literal(argument) if isinstance(argument, str) else numba.typeof(argument)


# ---- where the machine code is kept

KEPT = 3                    # folders of machine code, one for each version of the kernels
UNUSED_SECONDS = 24 * 3600


def _with_cache(dispatcher: Any) -> Any:
    for folder in _cache_folders():
        if not _writable(folder):
            continue
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)      # numba reads it once, in enable_caching
        try:
            dispatcher.enable_caching()
            return dispatcher
        except RuntimeError:                                          # "cannot cache function: no locator available"
            continue
        finally:
            config.CACHE_DIR = before
    return dispatcher                                                 # nowhere to write: compile in every process


def _writable(folder: Path) -> bool:
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)                                              # used now
    except OSError:
        return False
    if new:
        _remove_unused(folder.parent)
    return True


def _remove_unused(parent: Path) -> None:
    """Remove machine code of other versions of the kernels: all but the last `KEPT`, and only what nobody has used for a day.

    Other processes may do the same at the same time. One that still runs an old version makes its folder again.
    """
    used = {}
    for folder in parent.glob("kernels-" + 12 * "[0-9a-f]"):
        with contextlib.suppress(OSError):                            # just removed by somebody else
            used[folder] = folder.stat().st_mtime
    for folder in sorted(used, key=used.__getitem__, reverse=True)[KEPT:]:
        if time.time() - used[folder] > UNUSED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _cache_folders() -> Iterator[Path]:
    """Where to try, in this order; an environment variable of the user, NUMBA_CACHE_DIR, decides alone."""
    name = f"kernels-{_source_digest()}"
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR) / name
        return
    yield Path(__file__).parent / "__pycache__" / name
    with contextlib.suppress(RuntimeError):                           # there may be no home at all
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinymm" / name
    private = _private_temporary_folder()
    if private is not None:
        yield private / name


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _private_temporary_folder() -> Path | None:
    """A folder among the temporary files that only this user can write: code in it is trusted, so nobody else may."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        folder = Path(tempfile.gettempdir()) / f"tinymm-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or status.st_uid == user and not stat.S_IMODE(status.st_mode) & 0o022
    return folder if ours and stat.S_ISDIR(status.st_mode) else None


# ---- telling the user why it takes a moment

def _somebody_is_watching() -> bool:
    """An interactive session, or tinymm's own command line."""
    main = sys.modules.get("__main__")
    command_line = getattr(main, "__package__", None) == "tinymm" or Path(sys.argv[0] or "python").name == "tinymm"
    return command_line or hasattr(sys, "ps1") or "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


class _Announcement(event.Listener):
    """Says once a process that kernels are being compiled, when numba really starts to compile one (and did not find it saved)."""

    said = False

    def on_start(self, event: Any) -> None:
        if not _Announcement.said and _somebody_is_watching():
            _Announcement.said = True
            print("compiling kernels (once)...", file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    with event.install_listener("numba:compile", _Announcement()):
        yield
