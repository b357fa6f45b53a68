"""`tinymm predict`: what a trained text model says about a text."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinymm.commands.options import load
from tinymm.errors import UserError

HELP = """\
What a trained text model says about a text: lstm and bert_classifier how likely it is that the text is positive, bert which
words may stand in place of each <mask>, encoder_decoder what it makes of the text."""

EXAMPLES = """\
examples:
  tinymm predict runs/lstm "a film of wit and grace"
  tinymm predict runs/bert "a <mask> and moving film ."
  tinymm predict runs/encoder_decoder "three hundred and twelve"      after `tinymm train encoder_decoder --data numbers`"""


def add(commands: Any) -> None:
    predict = commands.add_parser("predict", help="what a text model says about a text", description=HELP, epilog=EXAMPLES)
    predict.add_argument("folder", metavar="RUN", type=Path, help=f"the run folder of one of these: {', '.join(ANSWERS)}")
    predict.add_argument("text", metavar="TEXT", help="in quotes")
    predict.set_defaults(run=run_predict)


def run_predict(options: argparse.Namespace) -> int:
    from tinymm.training.checkpoints import RunFolder

    names = ", ".join(ANSWERS)
    if not options.folder.exists():
        raise UserError(f"there is no run folder {options.folder}; `tinymm train MODEL --out {options.folder}` makes it, MODEL being one of {names}")
    kind = RunFolder.open(options.folder).config["model"]
    if kind not in ANSWERS:
        raise UserError(f"{options.folder} holds a model of kind {kind!r}; `tinymm predict` needs one of {names}")
    model = load(options.folder)
    print(*ANSWERS[kind](model, options.text), sep="\n")
    return 0


def judge(model: Any, text: str) -> list[str]:
    """How likely the text is positive. In training a long text is cut off; here that would hide what was not read."""
    from tinymm.models.bert_classifier import BERTClassifier

    words = len(model.tokenizer.encode(text))
    longest = model.config.max_length - isinstance(model, BERTClassifier)      # <cls> takes a place
    if words > longest:
        raise UserError(f"the text has {words} words and signs, but the model reads at most {longest}; shorten it")
    share = model.predict(text)
    _tell_unknown_words(model, text)
    return [f"positive {share:.1%}"]


def fill_gaps(model: Any, text: str) -> list[str]:
    """For each <mask> the likeliest words."""
    from tinymm.models.bert import MASK

    guesses = model.predict_masked(text)
    _tell_unknown_words(model, text.replace(MASK, " "))
    return [", ".join(f"{word} {share:.1%}" for word, share in words) for words in guesses]


def rewrite(model: Any, text: str) -> list[str]:
    return [model.translate(text)]


ANSWERS: dict[str, Callable[[Any, str], list[str]]] = {
    "lstm": judge, "bert_classifier": judge, "bert": fill_gaps, "encoder_decoder": rewrite,
}


def _tell_unknown_words(model: Any, text: str) -> None:
    """Words that are read as <unk> are named on stderr. Raises UserError if no word is known: the answer would be about nothing."""
    unknown = model.tokenizer.unknown_words(text)
    if not unknown:
        return
    named = ("word " if len(unknown) == 1 else "words ") + ", ".join(map(repr, unknown))
    if not any(map(str.isalnum, set(model.tokenizer.split(text)) - set(unknown))):
        raise UserError(f"the model knows no word of the text: it has never read the {named}")
    print(f"tinymm: the model does not know the {named} and reads <unk> in its place", file=sys.stderr)
