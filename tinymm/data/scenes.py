"""Scenes: one to three coloured shapes in relations, drawn with Pillow, each with exactly one right caption.

    a red circle
    a red circle left of a blue star                              also: above
    a red circle left of a blue star left of a green heart        also: above ... above
    a red circle right of a blue star and below a green heart     a corner; also: left of, above

The caption is computed from the places of the shapes, never stored beside them, so it cannot contradict the
picture. It names the shapes in a fixed order: along a row from the left, along a column from the top, and a
corner from the shape that stands in line with both others.

Eight of the 48 pairs of colour and shape are held out: no training scene has one, every scene of the split
"unseen" has at least one. They are also chosen so that easy-VQA, which has three of these shapes and five of these
colours, does not have them. Who captions "unseen" scenes rightly has composed what was learnt apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64        # pixels on each side of a scene
FINE = 4         # shapes are drawn this many times larger and then averaged down: smooth edges

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40), "orange": (245, 140, 20), "yellow": (245, 220, 30), "green": (40, 165, 60),
    "blue": (40, 80, 220), "purple": (130, 50, 170), "pink": (245, 120, 190), "black": (30, 30, 30),
}
SHAPES = ("circle", "triangle", "rectangle", "star", "heart", "cross")
PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)

# Each colour once, each shape once or twice: all of them are still seen in training, with other partners.
HELD_OUT_PAIRS = (
    ("red", "star"), ("orange", "circle"), ("yellow", "cross"), ("green", "heart"),
    ("blue", "star"), ("purple", "triangle"), ("pink", "rectangle"), ("black", "heart"),
)
TRAINING_PAIRS = tuple(pair for pair in PAIRS if pair not in HELD_OUT_PAIRS)
SPLITS = ("train", "seen", "unseen")


@dataclass(frozen=True, slots=True)
class Shape:
    """A coloured shape that fills a box of whole pixels."""

    kind: str
    color: str
    left: int
    top: int
    width: int
    height: int
    rgb: tuple[int, int, int]      # the colour as drawn: near COLORS[color]

    @property
    def x(self) -> float:
        """The middle of the box, from the left border of the picture."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """The middle of the box, from the upper border of the picture."""
        return self.top + self.height / 2

    def __str__(self) -> str:
        return f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes on a ground that runs smoothly between the colours of its four corners."""

    shapes: tuple[Shape, ...]
    corners: tuple[tuple[int, int, int], ...]   # upper left, upper right, lower left, lower right

    @property
    def caption(self) -> str:
        return describe(self.shapes)

    def mirrored(self) -> "Scene":
        """The scene seen in a mirror: left and right change places, in the picture and in the caption."""
        shapes = tuple(replace(shape, left=SIZE - shape.left - shape.width) for shape in self.shapes)
        a, b, c, d = self.corners
        return Scene(shapes, (b, a, d, c))


def relation(a: Shape, b: Shape, slack: float = 0.5) -> str | None:
    """How a stands to b: "left of", "right of", "above", "below", or None when they are in line neither way.

    They are in line when the smaller of the two distances is at most `slack` of the larger.
    """
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dy) <= slack * abs(dx):
        return "left of" if dx > 0 else "right of"
    if abs(dx) <= slack * abs(dy):
        return "above" if dy > 0 else "below"
    return None


def describe(shapes: Sequence[Shape], slack: float = 0.5) -> str:
    """The caption of one to three shapes, whatever order they come in.

    Raises:
        ValueError: there is no right caption, or more than one.
    """
    if not 1 <= len(shapes) <= 3:
        raise ValueError(f"a caption is about one to three shapes, got {len(shapes)}")
    for word, across in (("left of", lambda shape: shape.x), ("above", lambda shape: shape.y)):
        line = sorted(shapes, key=across)
        if all(relation(a, b, slack) == word for i, a in enumerate(line) for b in line[i + 1:]):
            return f" {word} ".join(map(str, line))
    captions = []
    if len(shapes) == 3:
        for i, anchor in enumerate(shapes):
            others = [shape for shape in shapes[:i] + shapes[i + 1:]]
            words = {relation(anchor, other, slack): other for other in others}
            beside, over = words.keys() & {"left of", "right of"}, words.keys() & {"above", "below"}
            if beside and over:
                (h,), (v,) = beside, over
                captions.append(f"{anchor} {h} {words[h]} and {v} {words[v]}")
    if len(captions) != 1:
        places = ", ".join(f"({shape.x:g}, {shape.y:g})" for shape in shapes)
        raise ValueError(f"shapes must stand in a row, a column or a corner to have one caption, got centres {places}")
    return captions[0]


# ---------------------------------------------------------------------------------------------------- drawing

def _polygon(kind: str) -> NDArray[np.float64]:
    """The outline of a shape within the square from -0.5 to 0.5."""
    if kind == "triangle":
        points = [(0, -0.46), (0.5, 0.42), (-0.5, 0.42)]
    elif kind == "rectangle":
        points = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    elif kind == "star":
        turns = [(math.tau * i / 10, 0.53 if i % 2 == 0 else 0.22) for i in range(10)]
        points = [(r * math.sin(t), 0.03 - r * math.cos(t)) for t, r in turns]
    elif kind == "heart":
        t = np.arange(40) * (math.tau / 40)
        height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        points = np.stack([0.5 * np.sin(t) ** 3, -0.06 - height / 32], axis=1)
    else:   # a cross
        w = 0.17
        corner = (-w, -w), (-w, -0.5), (w, -0.5)            # one arm; the other three are the same, turned
        points = [*corner, *((-y, x) for x, y in corner), *((-x, -y) for x, y in corner), *((y, -x) for x, y in corner)]
    return np.array(points, dtype=np.float64)


_OUTLINES = {kind: _polygon(kind) for kind in SHAPES if kind != "circle"}


_ALONG = np.linspace(0, 1, SIZE, dtype=np.float32)
_FROM_CORNERS = np.stack([np.outer(y, x).ravel() for y in (1 - _ALONG, _ALONG) for x in (1 - _ALONG, _ALONG)], axis=1)


def draw_scenes(scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """Draw scenes with smooth edges: uint8 (N, 64, 64, 3)."""
    corners = np.array([scene.corners for scene in scenes], dtype=np.float32).reshape(-1, 4, 3)   # (N, 4, 3)
    pictures = (_FROM_CORNERS @ corners).reshape(-1, SIZE, 3 * SIZE)                              # (N, 64, 192)
    for picture, scene in zip(pictures, scenes):
        for shape in scene.shapes:
            rows = slice(shape.top, shape.top + shape.height)
            columns = slice(3 * shape.left, 3 * (shape.left + shape.width))
            row = np.array(shape.rgb * shape.width, dtype=np.float32)                             # (3 width,)
            place = picture[rows, columns]                                                        # (height, 3 width)
            place += _cover(shape.kind, shape.width, shape.height) * (row - place)
    return (pictures + 0.5).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)


def draw_scene(scene: Scene) -> Image.Image:
    """Draw one scene as a Pillow image, 64x64 in RGB."""
    return Image.fromarray(draw_scenes([scene])[0])


@cache
def _cover(kind: str, width: int, height: int) -> NDArray[np.float32]:
    """How much of each byte a shape covers, 0 to 1, (height, 3 width): drawn large by Pillow and averaged, once."""
    fine = Image.new("L", (width * FINE, height * FINE))
    pen = ImageDraw.Draw(fine)
    if kind == "circle":
        pen.ellipse((0, 0, width * FINE - 1, height * FINE - 1), fill=255)
    else:
        scale = (width * FINE - 1, height * FINE - 1)
        pen.polygon(((_OUTLINES[kind] + 0.5) * scale).ravel().tolist(), fill=255)
    return np.asarray(fine.reduce(FINE), dtype=np.float32).repeat(3, axis=1) / np.float32(255)


# ---------------------------------------------------------------------------------------------------- sampling

_SIZES = {1: (16, 36), 2: (15, 25), 3: (13, 17)}    # pixels, by the number of shapes
_GAP, _BORDER = 4, 2                                # pixels between shapes in a line, and to the border
_CONTRAST = 80                                      # in at least one channel, between every shape and the ground
_ALIGNED, _DIAGONAL = 0.3, 0.7                    # `describe` decides at 0.5; what is drawn keeps away from it


def sample_scene(
    rng: np.random.Generator, pairs: Sequence[tuple[str, str]] = TRAINING_PAIRS, *,
    count: int | None = None, must_have: tuple[str, str] | None = None,
) -> Scene:
    """Draw a scene's content by lot.

    Args:
        rng: the source of chance.
        pairs: the pairs of colour and shape to choose from.
        count: how many shapes, 1 to 3; by lot (in the proportion 1 : 2 : 3) when not given.
        must_have: a pair that one of the shapes has in any case.
    """
    chance = _Chance(rng)
    if count is None:
        count = chance.choose((1, 2, 2, 3, 3, 3))
    if count not in _SIZES:
        raise ValueError(f"count must be 1, 2 or 3, got {count}")
    chosen = [chance.choose(pairs) for _ in range(count)]
    if must_have is not None:
        chosen[chance.below(count)] = must_have
    shades = [_shade(chance, color) for color, _ in chosen]
    corners = _ground(chance, shades)
    shapes = []
    for (color, kind), shade, (x, y, size) in zip(chosen, shades, _places(chance, count)):
        width = height = round(size)
        if kind == "rectangle":
            shorter = round(size * chance.between(0.6, 1.0))
            width, height = chance.choose(((shorter, height), (width, shorter)))
        shapes.append(Shape(kind, color, round(x - width / 2), round(y - height / 2), width, height, shade))
    return Scene(tuple(shapes), corners)


class _Chance:
    """Single random numbers in plain Python: a call of the Generator for each would take most of the time."""

    def __init__(self, rng: np.random.Generator):
        self._rng, self._numbers = rng, []

    def __call__(self) -> float:
        """A number from 0 to 1."""
        if not self._numbers:
            self._numbers = self._rng.random(64).tolist()
        return self._numbers.pop()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self()

    def below(self, n: int) -> int:
        return int(n * self())

    def choose(self, items: Sequence[Any]) -> Any:
        return items[int(len(items) * self())]


def _shade(chance: _Chance, color: str) -> tuple[int, int, int]:
    """A lighter or darker shade of a colour, still clearly of its name."""
    factor = chance.between(0.85, 1.1)
    return tuple(_byte(channel * factor + chance.between(-12, 12)) for channel in COLORS[color])


def _ground(chance: _Chance, shades: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Colours of the four corners, grey to white with a tint, on which every shape can be told from the ground."""
    while True:
        level = 120 + 135 * math.sqrt(chance())
        middle = [level + chance.between(-40, 40) for _ in range(3)]
        corners = tuple(tuple(_byte(channel + chance.between(-25, 25)) for channel in middle) for _ in range(4))
        if all(max(abs(a - b) for a, b in zip(shade, corner)) >= _CONTRAST for shade in shades for corner in corners):
            return corners


def _byte(value: float) -> int:
    return min(255, max(0, int(value)))


def _places(chance: _Chance, count: int) -> list[tuple[float, float, float]]:
    """Centres and sizes of `count` shapes that stand clearly in a row, a column or a corner, and do not touch."""
    sizes = [chance.between(*_SIZES[count]) for _ in range(count)]
    low = max(sizes) / 2 + _BORDER
    if count == 1:
        return [(chance.between(low, SIZE - low), chance.between(low, SIZE - low), sizes[0])]
    if count == 3 and chance() < 0.5:
        return _corner(chance, sizes)
    along = _spread(chance, sizes)
    nearest = min(b - a for a, b in zip(along, along[1:]))
    wobble = min(_ALIGNED * nearest, SIZE - 2 * low)        # how far they may be out of line
    base = chance.between(low, SIZE - low - wobble)
    across = [base + wobble * chance() for _ in sizes]
    x, y = (along, across) if chance() < 0.5 else (across, along)
    return list(zip(x, y, sizes))


def _spread(chance: _Chance, sizes: list[float]) -> list[float]:
    """Centres along a line from border to border, with at least a gap between neighbours."""
    room = SIZE - 2 * _BORDER - sum(sizes) - _GAP * (len(sizes) - 1)
    cuts = sorted(room * chance() for _ in sizes)
    centres, used = [], float(_BORDER)
    for size, cut in zip(sizes, cuts):
        centres.append(used + cut + size / 2)
        used += size + _GAP
    return centres


def _corner(chance: _Chance, sizes: list[float]) -> list[tuple[float, float, float]]:
    """An anchor, a second shape beside it, a third above or below it: the other two see each other diagonally."""
    largest = max(sizes)
    low, nearest = largest / 2 + _BORDER, largest + _GAP
    furthest = SIZE - 2 * low
    dx = chance.between(nearest, furthest)
    dy = chance.between(max(nearest, dx * _DIAGONAL), min(furthest, dx / _DIAGONAL))
    left, top = chance.between(low, low + furthest - dx), chance.between(low, low + furthest - dy)
    x0, x1 = chance.choose(((left, left + dx), (left + dx, left)))
    y0, y1 = chance.choose(((top, top + dy), (top + dy, top)))
    return [(x0, y0, sizes[0]), (x1, y0, sizes[1]), (x0, y1, sizes[2])]


@dataclass(frozen=True)
class SceneSet:
    """Drawn scenes with their captions, and the captions of the same pictures in a mirror."""

    images: NDArray[np.uint8]            # (N, 64, 64, 3)
    captions: tuple[str, ...]            # N of them
    mirrored_captions: tuple[str, ...]   # N of them

    def __len__(self) -> int:
        return len(self.captions)

    def pictures(self, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The pictures of some of the scenes, those mirrored where `mirrored` says so."""
        images = self.images[rows]
        images[mirrored] = images[mirrored][:, :, ::-1]
        return images


@dataclass(frozen=True)
class SceneList:
    """Scenes that are drawn when they are asked for: a tenth of the memory, for a tenth of a millisecond each."""

    scenes: tuple[Scene, ...]            # N of them
    captions: tuple[str, ...]            # N of them
    mirrored_captions: tuple[str, ...]   # N of them

    def __len__(self) -> int:
        return len(self.scenes)

    def pictures(self, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The pictures of some of the scenes, drawn now, those mirrored where `mirrored` says so."""
        chosen = [self.scenes[row] for row in rows.tolist()]
        return draw_scenes([scene.mirrored() if flip else scene for scene, flip in zip(chosen, mirrored.tolist())])

    def drawn(self) -> SceneSet:
        images = np.empty((len(self), SIZE, SIZE, 3), dtype=np.uint8)
        for start in range(0, len(self), 64):       # a few at a time, because they are drawn in float32
            images[start:start + 64] = draw_scenes(self.scenes[start:start + 64])
        return SceneSet(images, self.captions, self.mirrored_captions)


def compose_scenes(n: int, rng: np.random.Generator, split: str = "train") -> SceneList:
    """Choose the content of n scenes of a split, and do not draw them yet.

    Args:
        split: "train" and "seen" have none of the held-out pairs; every scene of "unseen" has at least one,
            each of the eight equally often.

    Raises:
        ValueError: an unknown split or a negative n.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if split == "unseen":
        held_out = (HELD_OUT_PAIRS[i % len(HELD_OUT_PAIRS)] for i in range(n))
        scenes = tuple(sample_scene(rng, PAIRS, must_have=pair) for pair in held_out)
    else:
        scenes = tuple(sample_scene(rng) for _ in range(n))
    captions = tuple(scene.caption for scene in scenes)
    return SceneList(scenes, captions, tuple(scene.mirrored().caption for scene in scenes))


def make_scenes(n: int, rng: np.random.Generator, split: str = "train") -> SceneSet:
    """Choose and draw n scenes of a split; what `compose_scenes` says holds here too."""
    return compose_scenes(n, rng, split).drawn()
