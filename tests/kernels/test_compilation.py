"""Where compiled kernels are kept, and what the user hears of it."""

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from tinymm.kernels import compilation
from tinymm.kernels.compilation import Kernel

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

SOURCE = "def double(first, last, x):\n    for i in range(first, last):\n        x[i] *= 2\n"


@pytest.fixture
def function(tmp_path):
    """A function from a file of its own, which no cache knows."""
    path = tmp_path / f"module_of_{tmp_path.name}.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module.double
    del sys.modules[path.stem]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as if installed in an empty folder, with a home and a folder for temporary files beside it."""
    package = tmp_path / "package"
    for name in ("package", "home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(compilation, "__file__", str(package / "compilation.py"))
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def block(*folders) -> None:
    """A file where a folder should be: nothing can be written there, not even by root."""
    for folder in folders:
        folder.write_text("")


def folder_used(function) -> str | None:
    """Compile and call, and say where the machine code went."""
    kernel = Kernel(function)
    x = np.arange(3.0)
    kernel(0, 3, x)
    assert x.tolist() == [0, 2, 4]
    return kernel.dispatcher._cache.cache_path


def test_beside_the_package(function, installed):
    assert folder_used(function).startswith(str(installed / "package" / "__pycache__" / "kernels-"))
    assert config.CACHE_DIR == ""


def test_read_only_installation(function, installed):
    block(installed / "package" / "__pycache__")
    assert folder_used(function).startswith(str(installed / "home" / ".cache" / "tinymm" / "kernels-"))


def test_users_cache_folder(function, installed, monkeypatch):
    block(installed / "package" / "__pycache__")
    monkeypatch.setenv("XDG_CACHE_HOME", str(installed / "elsewhere"))
    assert folder_used(function).startswith(str(installed / "elsewhere" / "tinymm"))


def test_numbas_own_setting_decides(function, installed, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(installed / "mine"))
    assert folder_used(function).startswith(str(installed / "mine" / "kernels-"))


def test_read_only_installation_and_home(function, installed):
    block(installed / "package" / "__pycache__", installed / "home" / ".cache")
    used = folder_used(function)
    assert used.startswith(str(installed / "temporary" / "tinymm-"))
    assert os.stat(next((installed / "temporary").iterdir())).st_mode & 0o777 == 0o700


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such modes here")
def test_a_folder_that_others_may_write_is_not_trusted(function, installed):
    block(installed / "package" / "__pycache__", installed / "home" / ".cache")
    shared = installed / "temporary" / f"tinymm-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert folder_used(function) is None
    assert not list(shared.iterdir())


def test_nowhere_to_write(function, installed, monkeypatch):
    block(installed / "package" / "__pycache__", installed / "home" / ".cache")
    monkeypatch.setattr(tempfile, "tempdir", str(installed / "missing"))
    assert folder_used(function) is None


def test_the_folder_becomes_unwritable_before_the_first_call(function, installed):
    kernel = Kernel(function)
    folder = kernel.dispatcher._cache.cache_path
    for path in sorted((installed / "package").rglob("*"), reverse=True):
        path.rmdir()
    block(installed / "package" / "__pycache__")
    x = np.ones(2)
    kernel(0, 2, x)
    assert x.tolist() == [2, 2] and not os.path.isdir(folder)


def test_broken_files_are_no_obstacle(function, installed):
    folder = folder_used(function)
    for path in os.listdir(folder):
        with open(os.path.join(folder, path), "wb") as file:
            file.write(b"\x80")
    kernel = Kernel(function)
    x = np.ones(2)
    kernel(0, 2, x)
    assert x.tolist() == [2, 2]


def test_a_change_of_any_kernel_file_makes_all_saved_code_stale(installed):
    (installed / "package" / "one.py").write_text("a = 1")
    before = compilation._source_digest()
    (installed / "package" / "one.py").write_text("a = 2")
    assert compilation._source_digest() != before


def test_unused_machine_code_of_other_versions_is_removed(function, installed):
    parent = installed / "package" / "__pycache__"
    now = time.time()
    days = {"kernels-00000000000a": 0.5, "kernels-00000000000b": 2, "kernels-00000000000c": 40, "kernels-00000000000d": 50,
            "kernels-mine": 90, "other": 90}
    for name, age in days.items():
        (parent / name).mkdir(parents=True)
        (parent / name / "file").write_text("")
        os.utime(parent / name, (now - 86400 * age,) * 2)
    new = Path(folder_used(function)).parent.name
    left = {folder.name for folder in parent.iterdir()}
    assert left == {new, "kernels-00000000000a", "kernels-00000000000b", "kernels-mine", "other"}


def test_machine_code_used_within_a_day_stays(function, installed):
    parent = installed / "package" / "__pycache__"
    for i in range(6):
        (parent / f"kernels-{i:012x}").mkdir(parents=True)
    folder_used(function)
    assert len(list(parent.iterdir())) == 7


def test_a_process_whose_folder_was_removed_goes_on(function, installed):
    kernel = Kernel(function)
    shutil.rmtree(installed / "package" / "__pycache__")
    x = np.arange(3.0)
    kernel(0, 3, x)
    assert x.tolist() == [0, 2, 4]


def test_one_machine_code_for_all_strides(function, installed):
    kernel = Kernel(function)
    for x in (np.ones(6), np.ones(6)[::2], np.ones(6)[::-1], np.ones((3, 2))[:, 0]):
        kernel(0, 3, x)
        assert x[:3].tolist() == [2, 2, 2]
    assert len(kernel.entry_points) == 1
    kernel(0, 2, np.ones(2, np.float32))
    assert len(kernel.entry_points) == 2


def test_only_a_real_compilation_is_announced_and_only_once(function, installed, monkeypatch, capsys):
    monkeypatch.setattr(compilation, "_somebody_is_watching", lambda: True)
    monkeypatch.setattr(compilation._Announcement, "said", False)
    kernel = Kernel(function)
    kernel(0, 2, np.ones(2))
    kernel(0, 2, np.ones(2, np.float32))
    assert capsys.readouterr().err == "compiling kernels (once)...\n"
    monkeypatch.setattr(compilation._Announcement, "said", False)
    Kernel(function)(0, 2, np.ones(2))                            # found on the disk
    assert capsys.readouterr().err == ""


def test_nothing_is_announced_to_nobody(function, installed, monkeypatch, capsys):
    monkeypatch.setattr(compilation, "_somebody_is_watching", lambda: False)
    monkeypatch.setattr(compilation._Announcement, "said", False)
    Kernel(function)(0, 2, np.ones(2))
    assert capsys.readouterr().err == ""
