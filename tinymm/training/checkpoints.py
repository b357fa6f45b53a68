"""The run folder: all that one training run leaves behind, and all that the other commands need.

    config.json                   which model, its sizes, the training settings
    tokenizer.json                the words
    model.safetensors             weights and running statistics: what every command but `train --resume` reads
    training_state.safetensors    the same and the optimizer's moments, the step, the seed: what `--resume` reads
    metrics.csv, evaluation.json, pictures/

Each file is written whole under another name, brought to the disk, and only then renamed. A rename is atomic: a process
killed at any moment leaves the old file or the new one, never half of one. All that a resumed run needs is in ONE
file, so its parts cannot come from different steps. safetensors holds arrays and nothing that could be executed.
"""

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from tinymm.catalog import SYSTEMS
from tinymm.errors import UserError
from tinymm.training.nonfinite import first_nonfinite

FORMAT = 1

# what tokenizer.json says of itself -> module and class; a file of words says nothing
TOKENIZERS: dict[str, tuple[str, str]] = {
    "words": ("tinymm.data.tokenizer", "Tokenizer"),
    "characters": ("tinymm.data.characters", "CharacterTokenizer"),
    "bpe": ("tinymm.data.bpe", "BytePairTokenizer"),
}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by a file with this content, or leave it as it was, even if the process dies or power fails."""
    temporary = path.with_name(f".{path.name}.tmp")    # same folder: a rename across file systems would not be atomic
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())       # the content before the name: else a power cut could leave an empty file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":                # the new name itself is part of the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class RunFolder:
    """A run folder on disk: `RunFolder.create` begins a run, `RunFolder.open` finds one.

    Attributes:
        path, weights, training_state, tokenizer, metrics, evaluation, pictures: where things are.
        config: what config.json holds.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any]):
        self.path = Path(path)
        self.config = config
        self.tokenizer = self.path / "tokenizer.json"
        self.weights = self.path / "model.safetensors"
        self.training_state = self.path / "training_state.safetensors"
        self.metrics = self.path / "metrics.csv"
        self.evaluation = self.path / "evaluation.json"
        self.pictures = self.path / "pictures"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, model: str, model_config: Mapping[str, Any],
               training: Mapping[str, Any], tokenizer: Any = None) -> "RunFolder":
        """Make the folder and write config.json and, if given, the tokenizer.

        Raises:
            UserError: the folder already holds a run, or cannot be made.
        """
        config = {"format": FORMAT, "model": model, "model_config": dict(model_config), "training": dict(training)}
        run = cls(path, config)
        refuse_to_overwrite(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if tokenizer is not None:
                tokenizer.save(run.tokenizer)
            # Last, because the config makes the folder a run: if killed before this, it can simply be begun again.
            write_atomically(run.path / "config.json", _json_bytes(run.config))
        except OSError as error:
            raise UserError(f"cannot write the run folder {path}: {error.strerror or error}") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Find an existing run.

        Raises:
            UserError: there is no such folder, or its config.json is missing, damaged or of another format.
        """
        path = Path(path)
        if not path.is_dir():
            why = "it is a file" if path.exists() else "there is no such folder"
            raise UserError(f"{path} is no run folder: {why}")
        file = path / "config.json"
        config = read_json(file, f"{path} holds no run: it has no config.json (`tinymm train --out {path}` makes one)")
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            found = config.get("format") if isinstance(config, dict) else None
            raise UserError(f"{file} has format {found!r}, but this version of tinymm reads format {FORMAT}")
        for key in ("model_config", "training"):
            if not isinstance(config.get(key), dict):
                raise UserError(f"{file} has no section {key!r}: it is damaged or was made by another program")
        if config.get("model") not in list(SYSTEMS):    # a list, because JSON may hold something unhashable
            raise UserError(f"{path} holds a model of kind {config.get('model')!r}, "
                            f"but this version of tinymm knows {', '.join(SYSTEMS)}")
        return cls(path, config)

    def save_weights(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Write model.safetensors from `model.state()`."""
        self._save(self.weights, state)

    def save_training_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._save(self.training_state, state)

    def load_weights(self) -> dict[str, NDArray[Any]]:
        """The arrays of model.safetensors.

        Raises:
            UserError: the file is missing, truncated or damaged.
        """
        if not self.weights.exists() and self.training_state.exists():
            raise UserError(f"{self.path} has no weights yet: "
                            f"finish its training with `tinymm train --out {self.path} --resume`")
        return self._load(self.weights)

    def load_training_state(self) -> dict[str, NDArray[Any]]:
        """The arrays of training_state.safetensors; raises UserError like `load_weights`."""
        return self._load(self.training_state)

    def save_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        write_atomically(self.evaluation, _json_bytes(evaluation))

    def _save(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        # safetensors writes an array's memory as it lies: what is not contiguous must be copied first.
        content = format_safetensors(
            {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()})
        try:
            write_atomically(path, content)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def _load(self, path: Path) -> dict[str, NDArray[Any]]:
        try:
            return parse_safetensors(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{self.path} has no weights: {path.name} is missing; "
                            f"train with `tinymm train --out {self.path} --resume`") from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is truncated or damaged: it is no complete safetensors file") from error


def refuse_to_overwrite(path: str | os.PathLike[str]) -> None:
    """Raise UserError if the folder contains a run, which a new one must not overwrite."""
    if any((Path(path) / name).exists() for name in ("config.json", "model.safetensors", "training_state.safetensors")):
        raise UserError(f"{path} already holds a run: continue it with --resume, or choose another folder with --out")


def read_json(path: Path, missing: str) -> Any:
    """What a JSON file holds. Raises UserError with the sentence `missing` if there is no file, or if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(missing) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:    # ValueError: bad JSON, or bytes that are no UTF-8
        raise UserError(f"{path} is damaged: it is no valid JSON") from error


def build_model(run: RunFolder, rng: np.random.Generator) -> Any:
    """A fresh model after the run's config.json.

    Raises:
        UserError: the config has unknown or missing fields, or values the model refuses.
    """
    system = SYSTEMS[run.config["model"]]
    module = import_module(system.module)
    config_class, model_class = getattr(module, system.config), getattr(module, system.model)
    sizes = run.config["model_config"]
    try:
        lists_to_tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
        return model_class(config_class(**lists_to_tuples), rng)
    except (TypeError, ValueError, MemoryError, ArithmeticError, IndexError) as error:
        raise UserError(f"{run.path / 'config.json'} does not describe a {run.config['model']} model of this version: "
                        f"{error}") from error


def load_tokenizer(run: RunFolder) -> Any:
    """The run's tokenizer. Raises UserError if it is missing or damaged."""
    content = read_json(run.tokenizer, f"{run.path} has no tokenizer.json: without it the model cannot read words")
    try:
        module_name, class_name = TOKENIZERS[content.get("kind", "words")]
        return getattr(import_module(module_name), class_name).load(run.tokenizer)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{run.tokenizer} is damaged: it is no tokenizer of tinymm") from error


def load_run(folder: str | os.PathLike[str], backend: str = "numpy") -> Any:
    """A trained model from its run folder, with its tokenizer as `model.tokenizer`; also known as `tinymm.load`.

    Args:
        folder: what `tinymm train --out` wrote.   backend: "numpy", or "numba" for speed.

    Raises:
        UserError: one clear sentence when the folder, its config, tokenizer or weights are missing, damaged or foreign.
    """
    run = RunFolder.open(folder)
    weights = run.load_weights()
    tokenizer = load_tokenizer(run) if "vocabulary_size" in run.config["model_config"] else None
    model = build_model(run, np.random.default_rng(0))    # these initial values are all replaced
    vocabulary_size = run.config["model_config"].get("vocabulary_size")
    if tokenizer is not None and len(tokenizer) != vocabulary_size:
        raise UserError(f"{run.tokenizer} has {len(tokenizer)} words, but the model was trained with "
                        f"{vocabulary_size}: it belongs to another run")
    load_weights_into(model, weights, run.weights)
    bad = first_nonfinite(weights)
    if bad:
        raise UserError(f"{run.weights} holds numbers that are not finite, first in {bad}: its training went wrong")
    model.tokenizer = tokenizer
    return model.use_backend(backend)


def load_weights_into(model: Any, weights: Mapping[str, NDArray[Any]], source: Path) -> None:
    """Copy weights into a model. Raises UserError if their names or shapes are not the model's."""
    try:
        model.load_state(dict(weights))
    except ValueError as error:
        raise UserError(f"{source} is a checkpoint of another model than config.json describes: {error}") from error


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
