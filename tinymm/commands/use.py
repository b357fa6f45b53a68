"""`tinymm ask`, `caption` and `write`: what a trained model is for."""

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymm.commands.options import RUN_FOLDER, load, number, png, whole_number
from tinymm.errors import UserError

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel

WORDS_SHOWN = 120     # a vocabulary up to this size is listed when a question has an unknown word

ASK_HELP = """\
Answer a question about an image: any size, any format that Pillow opens. The model knows the world of easy-VQA, one
coloured shape on a light ground, and the words of its questions. Runs of text_image, multimodal_bert and image_qa can
be asked; image_qa wants a question that holds both choices."""

ASK_EXAMPLES = """\
examples:
  tinymm ask shape.png "what color is the shape?"
  tinymm ask shape.png "is there a blue circle?" --picture looked.png      and draw where the model looked
  tinymm ask shape.png "is the shape red or blue?" --run runs/image_qa"""

CAPTION_HELP = """\
Describe an image: any size, any format that Pillow opens. The model knows scenes of one to three coloured shapes."""

CAPTION_EXAMPLES = """\
example:
  tinymm caption scene.png --picture looked.png      and draw where the model looked for each word"""

WRITE_HELP = """\
Let a trained gpt go on with a text, or write one from nothing. Each token is drawn from what the model thinks likely,
so another --seed gives another text."""

WRITE_EXAMPLES = """\
examples:
  tinymm write runs/gpt "Alice was beginning to"
  tinymm write runs/gpt_tang 春 --seed 3                a quatrain that begins with spring
  tinymm write runs/gpt "The Queen" --temperature 0      always the likeliest token"""


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

    write = commands.add_parser("write", help="let a trained gpt go on with a text", description=WRITE_HELP, epilog=WRITE_EXAMPLES)
    write.add_argument("folder", metavar="RUN", type=Path, help="the run folder of a gpt")
    write.add_argument("prompt", metavar="PROMPT", nargs="?", default="", help="the text to go on with (default: none)")
    write.add_argument("--temperature", metavar="X", type=number(0), default=0.8,
                       help="below 1 more careful, above 1 more daring, 0 always the likeliest token (default 0.8)")
    write.add_argument("--top-k", metavar="K", type=whole_number(1), help="draw from the K likeliest tokens only")
    write.add_argument("--top-p", metavar="P", type=number(0.001, 1), default=0.9,
                       help="draw from the likeliest tokens that together reach probability P (default 0.9; 1 is all)")
    write.add_argument("--tokens", metavar="N", type=whole_number(1), default=200, help="the most tokens to write (default 200)")
    write.add_argument("--seed", metavar="N", type=whole_number(0), default=0, help="the same seed writes the same text (default 0)")
    write.set_defaults(run=run_write)


def run_ask(options: argparse.Namespace) -> int:
    if not any(map(str.isalnum, options.question)):
        raise UserError("the question is empty; ask something such as 'what color is the shape?'")
    model = load(options.folder)
    if not hasattr(model, "answer"):
        raise UserError(f"the model in {options.folder} answers no questions about images; `tinymm train` makes one that does")
    _check_words(model, options.question)
    print(model.answer(options.image, options.question))
    return _draw_look(model, options)


def run_caption(options: argparse.Namespace) -> int:
    model = load(options.folder)
    print(model.caption(options.image))
    return _draw_look(model, options)


def run_write(options: argparse.Namespace) -> int:
    if not options.folder.exists():
        raise UserError(f"there is no run folder {options.folder}; `tinymm train gpt --out {options.folder}` makes it")
    model = load(options.folder)
    from numpy.random import default_rng

    from tinymm.models.gpt import GPTModel

    if not isinstance(model, GPTModel):
        raise UserError(f"the model in {options.folder} does not write texts; `tinymm train gpt` makes one that does")
    text = model.generate(options.prompt, max_new_tokens=options.tokens, temperature=options.temperature, top_k=options.top_k,
                          top_p=options.top_p, rng=default_rng(options.seed))
    print(options.prompt + text)
    return 0


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
