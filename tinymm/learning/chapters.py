"""Where the lessons are, and what each chapter asks for."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tinymm.data.shipped import SOURCE_TREE
from tinymm.errors import UserError
from tinymm.learning.exercise import Exercise

FOLDER = re.compile(r"(\d\d)_(\w+)$")


@dataclass(frozen=True)
class Chapter:
    """A folder lessons/NN_topic."""

    number: int
    topic: str
    path: Path

    @property
    def title(self) -> str:
        return self.topic.replace("_", " ")

    def exercises(self) -> list[Exercise]:
        """What checks.py lists; empty when the chapter has none."""
        file = self.path / "checks.py"
        return list(import_file(file).EXERCISES) if file.exists() else []


def lessons_folder() -> Path:
    """`lessons/` of the current folder, else of the source tree that tinymm runs from.

    Raises:
        UserError: there is none.
    """
    for folder in (Path.cwd() / "lessons", SOURCE_TREE.parent / "lessons"):
        if any(FOLDER.match(path.name) for path in folder.glob("*/")):
            return folder
    raise UserError("there is no folder lessons/ here; go to the folder of tinymm's source, which holds it")


def chapters(folder: Path | None = None) -> list[Chapter]:
    """All chapters, in order."""
    found = []
    for path in sorted((folder or lessons_folder()).iterdir()):
        match = FOLDER.match(path.name)
        if match and path.is_dir():
            found.append(Chapter(int(match[1]), match[2], path))
    return found


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own (not one of any package); its neighbours can be imported from it."""
    name = f"{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
