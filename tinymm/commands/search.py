"""`tinymm search`: find images by words, and words by an image, with the CLIP model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinymm.commands.options import RUNS, load, png, whole_number
from tinymm.errors import UserError

DEFAULT_CLIP = RUNS / "clip"

HELP = """\
Rank images by words, or names by an image, with a model of `tinymm train clip`, and draw what was found with its scores.
Without images the words are looked for among the emoji of an artist whom the model has never seen."""

EXAMPLES = """\
examples:
  tinymm search "red heart"                    among the shipped emoji of the unseen artist
  tinymm search my_icons "a red car"           in a folder, and the folders in it
  tinymm search a.png b.png c.png "a red car"  among some images
  tinymm search drawing.png                    which emoji is this? names, with drawings of the training"""


def add(commands: Any) -> None:
    search = commands.add_parser("search", help="find images by words, and names by an image", description=HELP, epilog=EXAMPLES)
    search.add_argument("what", metavar="IMAGE-OR-FOLDER-OR-WORDS", nargs="+", help="images or folders, and words in quotes at the end")
    search.add_argument("--run", dest="folder", metavar="RUN", type=Path, default=DEFAULT_CLIP,
                        help=f"the run folder of a clip model (default {DEFAULT_CLIP})")
    search.add_argument("--top", metavar="N", type=whole_number(1), default=12, help="how many to show (default 12)")
    search.add_argument("--picture", metavar="PNG", type=png, help="where to draw what was found (default RUN/pictures/search.png)")
    search.set_defaults(run=run_search)


def run_search(options: argparse.Namespace) -> int:
    from tinymm.models.clip import CLIPModel

    paths, words = split_arguments(options.what)
    files = images_in(paths)
    if not words and len(files) > 1:
        raise UserError('what is to be found in these images? Put words in quotes at the end, such as "red heart"; a single image finds names')
    model = load(options.folder)
    if not isinstance(model, CLIPModel):
        raise UserError(f"{options.folder} holds no clip model; `tinymm train clip` makes one")
    picture = options.picture or options.folder / "pictures" / "search.png"
    if words:
        search_images(model, files, words, options.top, picture)
    else:
        search_names(model, files[0], options.top, picture)
    print(picture)
    return 0


def search_images(model: Any, files: Sequence[Path], words: str, top: int, picture: Path) -> None:
    """Rank images, or the emoji of the unseen artist if there are none, by their likeness to the words."""
    from tinymm.data.images import load_image
    from tinymm.plots.retrieval import draw_contact_sheet

    text = model.embed_text(words)                                                      # (D,)
    if files:
        images, names = readable(files)
        title = f'“{words}” in {len(images)} images'
    else:
        from tinymm.data.emoji import TEST_ARTIST, load_emoji

        emoji = load_emoji()
        images, names = list(emoji.drawings[TEST_ARTIST]), list(emoji.names)
        title = f'“{words}” among the emoji of {TEST_ARTIST}, an artist never seen in training'
    scores = model.embed_image(images) @ text                                           # (B,)
    order = (-scores).argsort(kind="stable")[:top]
    for place in order:
        print(f"{scores[place]:6.3f}  {names[place]}")
    size = 128 if files else 32
    draw_contact_sheet(title, [load_image(images[i], size) for i in order], [Path(names[i]).name for i in order], [scores[i] for i in order], picture)


def search_names(model: Any, file: Path, top: int, picture: Path) -> None:
    """Rank the emoji names by their likeness to an image, shown with the drawings of a training artist."""
    from tinymm.data.emoji import TRAINING_ARTISTS, load_emoji
    from tinymm.data.images import load_image
    from tinymm.plots.retrieval import draw_contact_sheet

    emoji = load_emoji()
    scores = model.embed_text(list(emoji.names)) @ model.embed_image(file)              # (N,)
    order = (-scores).argsort(kind="stable")[:top]
    for place in order:
        print(f"{scores[place]:6.3f}  {emoji.characters[place]}  {emoji.names[place]}")
    drawings = emoji.drawings[TRAINING_ARTISTS[0]]
    draw_contact_sheet(f"Names for {file.name}", [drawings[i] for i in order], [emoji.names[i] for i in order], [scores[i] for i in order],
                       picture, query=load_image(file, 128))


def split_arguments(what: Sequence[str]) -> tuple[list[Path], str]:
    """The paths at the front, and the words at the end.

    Raises:
        UserError: something that is no path stands before the end, or what looks like an image file does not exist.
    """
    *front, last = what
    paths, words = [Path(path) for path in front], last
    if Path(last).exists():
        paths, words = [*paths, Path(last)], ""
    elif is_image_name(last):
        raise UserError(f"the image {last} does not exist")
    elif not any(map(str.isalnum, last)):
        raise UserError('the words are empty; give some such as "red heart"')
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} is neither an image nor a folder; put the words in quotes, at the end")
    return paths, words


def is_image_name(name: str | Path) -> bool:
    from PIL import Image

    return Path(name).suffix.lower() in Image.registered_extensions()


def images_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are; of a folder all that are named like images, those in its folders too, in the order of their names."""
    files: list[Path] = []
    for path in paths:
        found = sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file)) if path.is_dir() else [path]
        if not found:
            raise UserError(f"there is no image in the folder {path}")
        files += found
    return files


def readable(files: Sequence[Path]) -> tuple[list[Any], list[str]]:
    """The images that can be read, with their paths; a sentence on stderr for each that cannot.

    Raises:
        UserError: there is none.
    """
    from tinymm.data.images import load_image

    images, names = [], []
    for file in files:
        try:
            images.append(load_image(file, 128))
            names.append(str(file))
        except UserError as error:
            print(f"tinymm: left out: {error}", file=sys.stderr)
    if not images:
        raise UserError("none of the images can be read")
    return images, names
