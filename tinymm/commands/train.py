"""`tinymm train`, `evaluate`, `compare` and `models`: from a recipe to a trained model and its figures."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymm.catalog import SYSTEMS
from tinymm.commands.options import BACKENDS, DEFAULT_RUN, RUN_FOLDER, find_run, png, run_folder, whole_number
from tinymm.errors import UserError

if TYPE_CHECKING:
    from tinymm.training.jobs import Figure, Report, TrainingRecipe

FUSIONS = ("concatenate", "cross", "joint")

TRAIN_HELP = """\
Train a model; `tinymm models` lists all. `text_image` (the default) learns two tasks at once: to answer the
questions of easy-VQA, a published data set that comes with tinymm, and to describe scenes of coloured shapes that
tinymm draws itself.

The run folder then holds
  model.safetensors            the weights: all that ask, caption and evaluate need, with the two files below
  config.json tokenizer.json   the sizes and settings, and the words
  training_state.safetensors   what --resume reads; the training may be killed at any moment
  metrics.csv                  loss, accuracy and learning rate, step by step
  pictures/                    curves.png: loss and accuracy; of text_image also questions.png and captions.png, test
                               items with the answer given and the one expected, and attention.png, where it looked"""

TRAIN_EXAMPLES = """\
examples:
  tinymm train                                     the full training
  tinymm train --quick --out runs/quick            about a minute: it works, but knows less
  tinymm train --resume                            go on after Ctrl-C, a crash or a power cut, exactly where it was
  tinymm train --fusion cross --out runs/cross     words look at the image by cross-attention
  tinymm train gpt --data tang                     another model -> runs/gpt_tang
  tinymm train --backend numpy --steps 20 --out runs/tiny     to step through in a debugger"""

EVALUATE_HELP = """\
Test a trained model on what it was not trained on, with baselines beside it. For text_image: the official test
questions of easy-VQA, scenes with known pairs of colour and shape, and scenes with pairs that never occurred together
in training; the baselines know only the question: the model with the image blanked, and the commonest training answer
to each question.

Writes evaluation.json and pictures to the run folder."""

COMPARE_HELP = """\
Put the last evaluation of several trainings side by side, and draw how each of them learnt."""

COMPARE_EXAMPLES = """\
example:
  tinymm train --fusion cross --out runs/cross
  tinymm train --fusion concatenate --out runs/concatenate
  tinymm compare runs/text_image runs/cross runs/concatenate --picture fusions.png"""

MODELS_HELP = """\
List the models: what each is, what it learns from, its parameters, how long it trained, and what it reached on test
data in this project's own runs."""


def add(commands: Any) -> None:
    train = commands.add_parser("train", help="train a model", description=TRAIN_HELP, epilog=TRAIN_EXAMPLES)
    train.add_argument("model", metavar="MODEL", nargs="?", choices=tuple(SYSTEMS),
                       help=f"which model (default text_image): {', '.join(SYSTEMS)}")
    train.add_argument("--out", metavar="RUN", type=Path, help="the run folder (default runs/MODEL)")
    train.add_argument("--resume", action="store_true", help="go on with the training in the run folder")
    train.add_argument("--quick", action="store_true", help="a one-minute version")
    train.add_argument("--data", metavar="NAME", help="which data, where a model has several")
    train.add_argument("--from", dest="start_from", metavar="RUN", type=Path, help="start with the weights of another run")
    train.add_argument("--fusion", choices=FUSIONS,
                       help="how words see the image: one sequence, cross-attention, or joint keys and values")
    train.add_argument("--seed", metavar="N", type=whole_number(0),
                       help="the same seed gives the same weights, bit for bit (default 0)")
    train.add_argument("--steps", metavar="N", type=whole_number(1), help="how many training steps")
    train.add_argument("--backend", choices=BACKENDS, help="numba is fast (default), numpy can be stepped through")
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser("evaluate", help="test a trained model", description=EVALUATE_HELP)
    evaluate.add_argument("folder", nargs="?", **RUN_FOLDER)
    evaluate.add_argument("--backend", choices=BACKENDS, default="numpy", help="default numpy")
    evaluate.set_defaults(run=run_evaluate)

    compare = commands.add_parser("compare", help="put trained models side by side", description=COMPARE_HELP,
                                  epilog=COMPARE_EXAMPLES)
    compare.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folders")
    compare.add_argument("--picture", metavar="PNG", type=png, help="also draw how each of them learnt, into this file")
    compare.set_defaults(run=run_compare)

    models = commands.add_parser("models", help="list the models, and what they reached", description=MODELS_HELP)
    models.set_defaults(run=run_models)


def run_train(options: argparse.Namespace) -> int:
    settings = ("quick", "data", "start_from", "fusion", "seed", "steps", "backend")
    given = {name: value for name in settings if (value := getattr(options, name)) not in (None, False)}
    name, folder = _name_and_folder(options)
    if options.resume:
        if given:
            words = ", ".join("--from" if word == "start_from" else f"--{word}" for word in given)
            raise UserError(f"--resume goes on with the settings of {folder}; leave out {words}")
        find_run(folder)
    recipe = None if options.resume else _recipe(name, given)
    from tinymm.memory import keep_freed_memory
    from tinymm.training.checkpoints import RunFolder, refuse_to_overwrite
    from tinymm.training.jobs import job, train_run

    if options.resume:
        name = _same_model(options.model, RunFolder.open(folder))
        print(f"going on with the training in {folder}", flush=True)
    else:
        refuse_to_overwrite(folder)
        print(f"preparing the data; the run folder will be {folder}", flush=True)
    keep_freed_memory()
    task, run, summary = train_run(name, folder, recipe, resume=options.resume)
    pictures = job(name).draw(run, task)
    minutes, seconds = divmod(round(summary.seconds), 60)
    print(f"trained {summary.steps:,} steps in {minutes} min {seconds:02d} s; on data it was not trained on:")
    for figure, value in summary.evaluation.items():
        meaning = _meaning(job(name).FIGURES, figure)
        print(f"  {meaning.sentence:<58}{meaning.text(value):>9}")
    print(f"weights   {run.weights}")
    for picture in pictures:
        print(f"picture   {picture}")
    print(f"next: tinymm evaluate{'' if folder == DEFAULT_RUN else f' {folder}'}")
    return 0


def _name_and_folder(options: argparse.Namespace) -> tuple[str, Path]:
    name = options.model or "text_image"
    return name, options.out or run_folder(name, options.data)


def _same_model(asked: str | None, run: Any) -> str:
    found = run.config["model"]
    if asked not in (None, found):
        raise UserError(f"{run.path} holds a training of {found}, not of {asked}")
    return found


def _recipe(name: str, given: dict[str, Any]) -> "TrainingRecipe":
    """The recipe of the model, with what the user wants otherwise."""
    data, quick = given.pop("data", None), given.pop("quick", False)
    if data is not None and data not in SYSTEMS[name].choices:
        there = f"choose from {', '.join(SYSTEMS[name].choices)}" if SYSTEMS[name].choices else "it has one kind of data only"
        raise UserError(f"{name} has no data called {data!r}; {there}")
    if "start_from" in given:
        given["start_from"] = str(find_run(given["start_from"]))
    from tinymm.training.jobs import job

    Recipe = job(name).Recipe
    recipe = Recipe.for_data(data) if data else Recipe.quick() if quick else Recipe()
    if data and quick:
        recipe = replace(recipe, training=Recipe.quick().training)
    return recipe.with_options(**given)


def _meaning(figures: "dict[str, Figure]", name: str) -> "Figure":
    from tinymm.training.jobs import Figure

    return figures.get(name) or Figure(name.replace("_", " "), "number" if "loss" in name else "share")


def run_evaluate(options: argparse.Namespace) -> int:
    path = find_run(options.folder)
    from tinymm.training.checkpoints import RunFolder, load_run
    from tinymm.training.jobs import job

    model, run = load_run(path, backend=options.backend), RunFolder.open(path)
    system = job(run.config["model"])
    report = system.evaluate_run(model, run)
    run.save_evaluation(report.summary())
    _print_report(report, system.FIGURES)
    print(f"written   {run.evaluation}")
    for picture in report.pictures:
        print(f"picture   {picture}")
    return 0


def _print_report(report: "Report", figures: "dict[str, Figure]") -> None:
    for name, value in report.figures.items():
        meaning, kinds = _meaning(figures, name), report.by_kind.get(name, {})
        total = sum(count for _, count in kinds.values())
        counts = f"   {round(value * total):,} of {total:,}" if total else ""
        print(f"{meaning.sentence:<52}{meaning.text(value):>9}{counts}")
        for kind, (part, count) in sorted(kinds.items()):
            print(f"    {kind:<48}{part:>9.2%}   {round(part * count):,} of {count:,}")
    for line in report.lines:
        print(line)


def run_compare(options: argparse.Namespace) -> int:
    from tinymm.plots import draw_comparison, read_metrics
    from tinymm.training.checkpoints import RunFolder
    from tinymm.training.jobs import job, parameter_count

    names = [folder.name for folder in options.folders]
    if len(set(names)) < len(names):
        raise UserError(f"the run folders need different names to be told apart, got {', '.join(names)}")
    runs = [RunFolder.open(find_run(folder)) for folder in options.folders]
    measured = [read_metrics(run.metrics) for run in runs]
    figures = {name: figure for run in runs for name, figure in job(run.config["model"]).FIGURES.items()
               if any(name in columns for columns in measured)}
    rows = [["run", "parameters", "steps", "minutes", *(name.replace("_", " ") for name in figures)]]
    for name, run, columns in zip(names, runs, measured):
        steps, seconds = columns["seconds"]
        last = [figure.text(columns[name][1][-1]) if name in columns else "-" for name, figure in figures.items()]
        rows.append([name, f"{parameter_count(run):,}", f"{steps[-1]:,.0f}", f"{seconds[-1] / 60:.1f}", *last])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        first, *others = (cell.ljust(width) if i == 0 else cell.rjust(width)
                          for i, (cell, width) in enumerate(zip(row, widths)))
        print("  ".join([first, *others]))
    if options.picture is not None:
        print(f"picture   {draw_comparison({name: run.metrics for name, run in zip(names, runs)}, options.picture)}")
    return 0


def run_models(options: argparse.Namespace) -> int:
    from tinymm.training.results import load_results

    results = load_results()
    for name, system in SYSTEMS.items():
        print(f"{name:<18}{system.summary}")
        print(f"{'':<18}learns from {system.data}" + (f"   --data {'|'.join(system.choices)}" if system.choices else ""))
        for result in results:
            if result["model"] == name:
                minutes, seconds = divmod(round(result["seconds"]), 60)
                of = f"{result['data']}: " if result.get("data") else ""
                print(f"{'':<18}{of}{result['parameters']:,} parameters, {result['steps']:,} steps in {minutes} min {seconds:02d} s")
                for figure in result["figures"]:
                    print(f"{'':<20}{figure['text']:>9}  {figure['sentence']}")
        print()
    return 0
