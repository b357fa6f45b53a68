"""`tinymm ask` and `caption`: what a trained model is for."""

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymm.commands.options import RUN_FOLDER, load, png
from tinymm.errors import UserError

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel

WORDS_SHOWN = 120     # a vocabulary up to this size is listed when a question has an unknown word

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


def add(commands: Any) -> None:
    ask = commands.add_parser("ask", help="ask a question about an image", description=ASK_HELP, epilog=ASK_EXAMPLES)
    ask.add_argument("image", metavar="IMAGE", type=Path, help="an image file")
    ask.add_argument("question", metavar="QUESTION", help="in quotes")
    ask.set_defaults(run=run_ask)

    caption = commands.add_parser("caption", help="describe an image", description=CAPTION_HELP,
                                  epilog=CAPTION_EXAMPLES)
    caption.add_argument("image", metavar="IMAGE", type=Path, help="an image file")
    caption.set_defaults(run=run_caption, question=None)
    for command in (ask, caption):
        command.add_argument("--run", dest="folder", **RUN_FOLDER)
        command.add_argument("--picture", metavar="PNG", type=png,
                             help="also draw where the model looked for each word, into this file")


def run_ask(options: argparse.Namespace) -> int:
    if not any(map(str.isalnum, options.question)):
        raise UserError("the question is empty; ask something such as 'what color is the shape?'")
    model = load(options.folder)
    _check_words(model, options.question)
    print(model.answer(options.image, options.question))
    return _draw_look(model, options)


def run_caption(options: argparse.Namespace) -> int:
    model = load(options.folder)
    print(model.caption(options.image))
    return _draw_look(model, options)


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
