"""The command line: `tinymm train`, `evaluate`, `ask`, `caption` and `gradcheck`.

Every command is a function that takes the parsed options and returns an exit code:

    0    it worked (gradcheck: every check passes)
    1    a gradient check failed
    2    a mistake in what the user gave: one sentence on stderr, no traceback
    130  stopped with Ctrl-C       141  the reader of our output went away

The heavy imports stand inside the commands, so that `tinymm --help` answers at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tinymm import UserError, __version__
from tinymm.catalog import SYSTEMS

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel
    from tinymm.training.jobs import Figure, Report, TrainingRecipe

RUNS = Path("runs")
DEFAULT_RUN = RUNS / "text_image"
FUSIONS = ("concatenate", "cross", "joint")
BACKENDS = ("numba", "numpy")
WORDS_SHOWN = 120     # a vocabulary up to this size is listed when a question has an unknown word

DESCRIPTION = """\
tinymm: a text-image Transformer built from nothing but arrays, each backward pass written by hand.
One model answers questions about an image and describes an image."""

EXAMPLES = """\
a first session:
  tinymm train                                     train on easy-VQA questions and drawn scenes -> runs/text_image
  tinymm evaluate                                  how often it is right on what it has never seen
  tinymm ask photo.png "what color is the shape?"
  tinymm caption photo.png
  tinymm gradcheck attention                       is the hand-written backward the derivative of the forward?

`tinymm COMMAND --help` tells more about one command.
In Python: tinymm.load("runs/text_image").answer("photo.png", "what color is the shape?")"""

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

ASK_HELP = """\
Answer a question about an image: any size, any format that Pillow opens. The model knows the world of easy-VQA, one
coloured shape on a light ground, and the words of its questions."""

ASK_EXAMPLES = """\
examples:
  tinymm ask shape.png "what color is the shape?"
  tinymm ask shape.png "is there a blue circle?" --picture looked.png      and draw where the model looked"""

CAPTION_HELP = """\
Describe an image: any size, any format that Pillow opens. The model knows scenes of one to three coloured shapes."""

CAPTION_EXAMPLES = """\
example:
  tinymm caption scene.png --picture looked.png      and draw where the model looked for each word"""

COMPARE_HELP = """\
Put the last evaluation of several trainings side by side, and draw how each of them learnt."""

COMPARE_EXAMPLES = """\
example:
  tinymm train --fusion cross --out runs/cross
  tinymm train --fusion concatenate --out runs/concatenate
  tinymm compare runs/text_image runs/cross runs/concatenate --picture fusions.png"""

GRADCHECK_HELP = """\
Compare every hand-written backward pass with finite differences in float64, and print a table: for each array its
shape, how many entries were checked, the largest relative error, where it is, and both gradients there.

Without a name everything is checked: every pair of functions, every layer, every model."""

GRADCHECK_EXAMPLES = """\
examples:
  tinymm gradcheck                                 everything
  tinymm gradcheck attention softmax layer_norm    three pairs
  tinymm gradcheck TransformerBlock                a layer"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; `arguments` are those of the process when not given."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")     # a file name may hold what the terminal cannot show
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if words[:1] == ["bench"]:      # its options belong to the benchmark, which has a parser of its own
            return run_bench(words[1:])
        options = make_parser().parse_args(words)
        code = options.run(options)
        sys.stdout.flush()      # here, so that a reader that went away is noticed here
        return code
    except UserError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # Python flushes once more when it ends
        return 141
    except MemoryError:
        return _complain("there is not enough memory for this", 2)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 2)


def _complain(sentence: str, code: int) -> int:
    print(f"tinymm: {' '.join(sentence.split())}", file=sys.stderr)
    return code


# ---------------------------------------------------------------------------------------------------- options


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=118)


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake as the rest of tinymm does: in one sentence."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=_help_formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` tells more")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="tinymm", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"tinymm {__version__}")
    parser.set_defaults(run=lambda options: parser.print_help() or 0)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    run_folder: dict[str, Any] = {
        "metavar": "RUN", "type": Path, "default": DEFAULT_RUN, "help": f"the run folder (default {DEFAULT_RUN})",
    }

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
    train.add_argument("--seed", metavar="N", type=_whole_number(0),
                       help="the same seed gives the same weights, bit for bit (default 0)")
    train.add_argument("--steps", metavar="N", type=_whole_number(1), help="how many training steps")
    train.add_argument("--backend", choices=BACKENDS, help="numba is fast (default), numpy can be stepped through")
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser("evaluate", help="test a trained model", description=EVALUATE_HELP)
    evaluate.add_argument("folder", nargs="?", **run_folder)
    evaluate.add_argument("--backend", choices=BACKENDS, default="numpy", help="default numpy")
    evaluate.set_defaults(run=run_evaluate)

    ask = commands.add_parser("ask", help="ask a question about an image", description=ASK_HELP, epilog=ASK_EXAMPLES)
    ask.add_argument("image", metavar="IMAGE", type=Path, help="an image file")
    ask.add_argument("question", metavar="QUESTION", help="in quotes")
    ask.set_defaults(run=run_ask)

    caption = commands.add_parser("caption", help="describe an image", description=CAPTION_HELP,
                                  epilog=CAPTION_EXAMPLES)
    caption.add_argument("image", metavar="IMAGE", type=Path, help="an image file")
    caption.set_defaults(run=run_caption, question=None)
    for command in (ask, caption):
        command.add_argument("--run", dest="folder", **run_folder)
        command.add_argument("--picture", metavar="PNG", type=_png,
                             help="also draw where the model looked for each word, into this file")

    gradcheck = commands.add_parser("gradcheck", help="check backward passes against finite differences",
                                    description=GRADCHECK_HELP, epilog=GRADCHECK_EXAMPLES)
    gradcheck.add_argument("names", metavar="NAME", nargs="*", help="a pair, a layer or a model (default: all)")
    gradcheck.add_argument("--seed", metavar="N", type=_whole_number(0), default=0,
                           help="of the random inputs (default 0)")
    gradcheck.set_defaults(run=run_gradcheck)

    compare = commands.add_parser("compare", help="put trained models side by side", description=COMPARE_HELP, epilog=COMPARE_EXAMPLES)
    compare.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folders")
    compare.add_argument("--picture", metavar="PNG", type=_png, help="also draw how each of them learnt, into this file")
    compare.set_defaults(run=run_compare)

    bench = commands.add_parser("bench", help="measure speed, beside NumPy and, if installed, PyTorch and JAX")
    bench.add_argument("what", choices=("attention", "step"), help="`tinymm bench attention --help` tells more")
    return parser


def _whole_number(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"it must be a whole number of at least {least}, got {text!r}")
        return number
    return parse


def _png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"it must be the name of a .png file, got {text!r}")
    return Path(text)


# ---------------------------------------------------------------------------------------------------- commands


def run_train(options: argparse.Namespace) -> int:
    settings = ("quick", "data", "start_from", "fusion", "seed", "steps", "backend")
    given = {name: value for name in settings if (value := getattr(options, name)) not in (None, False)}
    name, folder = _name_and_folder(options)
    if options.resume:
        if given:
            words = ", ".join("--from" if word == "start_from" else f"--{word}" for word in given)
            raise UserError(f"--resume goes on with the settings of {folder}; leave out {words}")
        _find_run(folder)
    recipe = None if options.resume else _recipe(name, given)
    from tinymm.kernels.memory import keep_freed_memory
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
    """Which model, and where its run lies: runs/MODEL, or runs/MODEL_DATA when the data were named."""
    name = options.model or "text_image"
    return name, options.out or RUNS / "_".join(part for part in (name, options.data) if part)


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
        given["start_from"] = str(_find_run(given["start_from"]))
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
    path = _find_run(options.folder)
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


def run_ask(options: argparse.Namespace) -> int:
    if not any(map(str.isalnum, options.question)):
        raise UserError("the question is empty; ask something such as 'what color is the shape?'")
    model = _load(options.folder)
    _check_words(model, options.question)
    print(model.answer(options.image, options.question))
    return _draw_look(model, options)


def run_caption(options: argparse.Namespace) -> int:
    model = _load(options.folder)
    print(model.caption(options.image))
    return _draw_look(model, options)


def run_gradcheck(options: argparse.Namespace) -> int:
    from tinymm.gradcheck import cases as gradcheck_cases

    names = [subject.name for subject in gradcheck_cases.discover()]
    for name in options.names:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
            raise UserError(f"there is no pair, layer or model called {name!r}; {hint}")
    return gradcheck_cases.main(options.names, seed=options.seed)


FIGURES_COMPARED = {"questions_exact": "questions", "captions_seen_exact": "captions, seen pairs", "captions_unseen_exact": "captions, unseen pairs"}


def run_compare(options: argparse.Namespace) -> int:
    from tinymm.plots import draw_comparison, read_metrics
    from tinymm.training.checkpoints import RunFolder, load_run

    names = [folder.name for folder in options.folders]
    if len(set(names)) < len(names):
        raise UserError(f"the run folders need different names to be told apart, got {', '.join(names)}")
    runs = [RunFolder.open(_find_run(folder)) for folder in options.folders]
    rows = [["run", "parameters", "steps", "minutes", *FIGURES_COMPARED.values()]]
    for name, run in zip(names, runs):
        model, columns = load_run(run.path), read_metrics(run.metrics)
        (steps, seconds), count = columns["seconds"], sum(parameter.value.size for parameter in model.parameters())
        last = [f"{columns[figure][1][-1]:.2%}" if figure in columns else "-" for figure in FIGURES_COMPARED]
        rows.append([name, f"{count:,}", f"{steps[-1]:,.0f}", f"{seconds[-1] / 60:.1f}", *last])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))))
    if options.picture is not None:
        print(f"picture   {draw_comparison({name: run.metrics for name, run in zip(names, runs)}, options.picture)}")
    return 0


def run_bench(words: Sequence[str]) -> int:
    from tinymm import bench

    return bench.main(words)


# ---------------------------------------------------------------------------------------------------- what they share


def _find_run(folder: Path) -> Path:
    if not folder.exists():
        where = "" if folder == DEFAULT_RUN else f" --out {folder}"
        raise UserError(f"there is no run folder {folder}; `tinymm train{where}` makes it")
    return folder


def _load(folder: Path) -> "TextImageModel":
    from tinymm.training.checkpoints import load_run

    return load_run(_find_run(folder))


def _check_words(model: "TextImageModel", question: str) -> None:
    """Refuse a question with words that the model has never read, and say which it has."""
    from tinymm.data.tokenizer import SPECIAL_TOKENS

    unknown = model.tokenizer.unknown_words(question)
    if not unknown:
        return
    known = [word for word in model.tokenizer.tokens if word not in SPECIAL_TOKENS and word.isalnum()]
    if len(known) > WORDS_SHOWN:
        known = sorted({match for word in unknown for match in difflib.get_close_matches(word, known, n=5, cutoff=0.4)})
    strange = ("word " if len(unknown) == 1 else "words ") + ", ".join(map(repr, unknown))
    raise UserError(f"the model does not know the {strange}; it knows: {', '.join(known)}")


def _draw_look(model: "TextImageModel", options: argparse.Namespace) -> int:
    """With --picture: draw where the model looked while it wrote."""
    if options.picture is not None:
        from tinymm.plots import draw_attention
        from tinymm.plots.text_image import look

        title = "Where the model looked for each word"
        draw_attention([look(model, options.image, options.question)], options.picture, title)
    return 0
