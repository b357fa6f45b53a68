"""What every training job has in common: a recipe that is kept in the run folder, and the way from it to a trained model.

The job of the system NAME is the module `tinymm.training.NAME`. It offers

    Recipe                  a TrainingRecipe: every setting, with its default
    FIGURES                 what each figure of an evaluation means
    prepare(recipe, tokenizer=None) -> task      data, words, and a model with fresh weights
    draw(run, task) -> [path]                    the pictures after a training
    evaluate_run(model, run) -> Report           what `tinymm evaluate` shows
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from tinymm.errors import UserError
from tinymm.training.checkpoints import RunFolder, build_model, load_tokenizer, refuse_to_overwrite
from tinymm.training.loop import TrainingSettings, TrainingSummary, train


class Figure(NamedTuple):
    """What a figure means, and how it is printed: "share" (0 to 1, as per cent) or "number"."""

    sentence: str
    kind: str = "share"

    def text(self, value: float) -> str:
        return f"{value:.2%}" if self.kind == "share" else f"{value:.4g}"


@dataclass(frozen=True)
class Report:
    """What an evaluation on the test data found.

    figures: by the names of the job's FIGURES, baselines beside them.
    lines: text to print below (a table, samples).    pictures: drawn into the run folder.
    by_kind: for a figure: kind of item -> (share that is right, how many items).
    """

    figures: Mapping[str, float]
    lines: Sequence[str] = ()
    pictures: Sequence[Path] = ()
    by_kind: Mapping[str, Mapping[str, tuple[float, int]]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What evaluation.json keeps."""
        by_kind = {name: {kind: {"share": share, "count": count} for kind, (share, count) in kinds.items()}
                   for name, kinds in self.by_kind.items()}
        return {"figures": dict(self.figures)} | ({"by_kind": by_kind} if by_kind else {})


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that decides what comes out of a training; saved in config.json. A job's Recipe adds its own fields.

    A field that is itself a frozen dataclass (the training settings, the model's sizes) must have a default.
    """

    DATA: ClassVar[tuple[str, ...]] = ()     # the values of the field `data`, if there is one

    training: TrainingSettings = TrainingSettings(steps=1000)
    model: Any = None
    backend: str = "numba"

    @classmethod
    def for_data(cls, data: str) -> Self:
        """The recipe for one of several data sets."""
        return cls(data=data)

    @classmethod
    def quick(cls) -> Self:
        """A version of at most a minute."""
        raise TypeError(f"{cls.__module__} has no quick recipe")

    def settings(self) -> dict[str, Any]:
        """What config.json keeps beside the model's sizes."""
        settings = asdict(self)
        del settings["model"]
        return settings

    @classmethod
    def of_run(cls, run: RunFolder) -> Self:
        """The recipe that a run began with.

        Raises:
            UserError: config.json has other fields or values than this version knows.
        """
        defaults = {f.name: getattr(cls, f.name, None) for f in fields(cls)}
        try:
            values = {**run.config["training"], "model": run.config["model_config"]}
            for name, value in values.items():
                if is_dataclass(defaults.get(name)):
                    values[name] = type(defaults[name])(**value)
                elif isinstance(value, list):
                    values[name] = tuple(value)
            return cls(**values)
        except (TypeError, ValueError, KeyError) as error:
            config = run.path / "config.json"
            raise UserError(f"{config} does not describe a training of this version: {error}") from error

    def with_options(self, **options: Any) -> Self:
        """This recipe with what a user wants otherwise: seed, steps, backend, fusion (of the model), start_from.

        Raises:
            UserError: the job has no such setting.
        """
        training = {name: options.pop(name) for name in ("seed", "steps") if name in options}
        recipe = replace(self, training=replace(self.training, **training))
        for name, value in options.items():
            if hasattr(recipe, name):
                recipe = replace(recipe, **{name: value})
            elif hasattr(recipe.model, name):
                recipe = replace(recipe, model=replace(recipe.model, **{name: value}))
            else:
                option = {"start_from": "from"}.get(name, name)
                raise UserError(f"this model has no setting --{option}; leave it out")
        return recipe


def job(name: str) -> ModuleType:
    """The module that trains the system of this name."""
    return import_module(f"tinymm.training.{name}")


def train_run(name: str, path: str | Path, recipe: TrainingRecipe | None = None, *, resume: bool = False,
              progress: bool = True) -> tuple[Any, RunFolder, TrainingSummary]:
    """Train the system `name` into a run folder, or go on with the training that it holds (then with its own recipe).

    Returns the task with its trained model, the run folder, and what the loop did.

    Raises:
        UserError: the folder holds a run and resume is False, or holds none and resume is True; or what `train` raises.
    """
    module = job(name)
    if resume:
        run = RunFolder.open(path)
        task = module.prepare(module.Recipe.of_run(run), load_tokenizer(run) if run.tokenizer.exists() else None)
    else:
        refuse_to_overwrite(path)    # before the data are prepared, which takes seconds
        task = module.prepare(recipe or module.Recipe())
        run = RunFolder.create(path, model=name, model_config=asdict(task.model.config),
                               training=task.recipe.settings(), tokenizer=getattr(task.model, "tokenizer", None))
    return task, run, train(task, task.recipe.training, run, resume=resume, progress=progress)


def parameter_count(run: RunFolder) -> int:
    """How many numbers the run's model learns (its running statistics are not learnt)."""
    model = build_model(run, np.random.default_rng(0))
    return sum(parameter.value.size for parameter in model.parameters())
