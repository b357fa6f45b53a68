"""The package as a whole: what it exports, what importing it costs, and what its metadata promise."""

import configparser
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import tinymm

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinymm"


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def python(code):
    """What a new Python process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_import_loads_neither_numpy_nor_numba_nor_matplotlib():
    heavy = {"numpy", "numba", "matplotlib", "PIL", "safetensors", "tqdm"}
    loaded = python(f"import tinymm, tinymm.cli, sys; print(*sorted({heavy} & sys.modules.keys()))")
    assert loaded.split() == []


def test_public_names_are_what_they_say():
    from tinymm.gradcheck import gradient_check, gradient_check_module
    from tinymm.training.checkpoints import load_run

    assert tinymm.load is load_run
    assert tinymm.gradient_check is gradient_check
    assert tinymm.gradient_check_module is gradient_check_module
    assert tinymm.functional is sys.modules["tinymm.functional"]
    assert issubclass(tinymm.UserError, Exception)
    assert set(tinymm.__all__) <= set(dir(tinymm))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tinymm.nonsense


def test_functional_is_pure_numpy():
    loaded = python("import tinymm.functional, sys; print(*sys.modules)").split()
    assert {"numba", "PIL", "matplotlib", "scipy"}.isdisjoint(loaded)
    own = {name for name in loaded if name.startswith("tinymm.") and not name.startswith("tinymm.functional")}
    assert own <= {"tinymm.errors"}      # loaded by tinymm itself


def test_setup_cfg_lists_every_package():
    listed = {name for name in setup_cfg()["options"]["packages"].split() if name != "tinymm_data"}
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("*.py")}
    assert listed == found
    assert all((ROOT / name.replace(".", "/") / "__init__.py").exists() for name in listed)


def test_setup_cfg_requires_all_that_is_imported():
    names = {"PIL": "pillow"}
    required = {line.split()[0] for line in setup_cfg()["options"]["install_requires"].strip().splitlines()}
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] in ("import", "from"):
                imported.add(words[1].split(".")[0].rstrip(","))
    others = {name for name in imported - set(sys.stdlib_module_names) - {"tinymm"} if find_spec(name)}
    others -= {"torch", "jax", "llvmlite", "IPython"}      # for comparisons only; llvmlite comes with numba, IPython with notebooks
    assert {names.get(name, name) for name in others} == required


def test_every_shipped_data_set_says_where_it_comes_from():
    from tinymm.data import data_path

    folder = data_path("easy_vqa")
    for name in ("LICENSE", "README.md", "answers.txt", "images.npz"):
        assert (folder / name).is_file()


def readme_blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block.split("\n```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_readme_python_runs():
    """All but the block that needs a trained model and a photo (tests/test_cli.py does what that one shows)."""
    blocks = [block for block in readme_blocks("python") if "photo.png" not in block]
    assert len(blocks) >= 2
    environment = os.environ | {"PYTHONBREAKPOINT": "0", "PYTHONPATH": str(ROOT)}
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert "FAIL" not in done.stdout


def test_readme_commands_are_commands_of_tinymm():
    from tinymm.cli import make_parser

    parser = make_parser()
    lines = [line.split("#")[0].strip() for block in readme_blocks("bash") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("tinymm ")]
    assert len(commands) >= 5
    for command in commands:
        parser.parse_args(shlex.split(command)[1:])


def test_continuous_integration_uses_the_commands_of_the_readme():
    lines = [line for block in readme_blocks("bash") for line in block.splitlines() if line.startswith("[ -d .venv ]")]
    assert [line.split(" && ")[-1] for line in lines] == [".venv/bin/tinymm train", ".venv/bin/python -m pytest -n auto"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_readme_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / target).exists(), target
