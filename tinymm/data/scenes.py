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


@dataclass(frozen=True)
class Shape:
    """A coloured shape. Its centre and its size (of the square that holds it) are in pixels."""

    kind: str
    color: str
    x: float
    y: float
    size: float
    rgb: tuple[int, int, int]      # the colour as drawn: near COLORS[color]
    aspect: float = 1.0            # of a rectangle: height / width

    def __str__(self) -> str:
        return f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """Shapes on a ground that runs smoothly between the colours of its four corners."""

    shapes: tuple[Shape, ...]
    corners: tuple[tuple[int, int, int], ...]   # upper left, upper right, lower left, lower right

    @property
    def caption(self) -> str:
        return describe(self.shapes)

    def mirrored(self) -> "Scene":
        """The scene seen in a mirror: left and right change places, in the picture and in the caption."""
        shapes = tuple(replace(shape, x=SIZE - shape.x) for shape in self.shapes)
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
        raise ValueError(f"the shapes must stand in a row, a column or a corner to have one caption, got {len(captions)}")
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
        turns = [math.tau * i / 40 for i in range(40)]
        points = [
            (0.5 * math.sin(t) ** 3, -0.06 - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 32)
            for t in turns
        ]
    else:   # a cross
        w = 0.17
        points = [(-w, -0.5), (w, -0.5), (w, -w), (0.5, -w), (0.5, w), (w, w), (w, 0.5), (-w, 0.5), (-w, w), (-0.5, w), (-0.5, -w), (-w, -w)]
    return np.array(points, dtype=np.float64)


_OUTLINES = {kind: _polygon(kind) for kind in SHAPES if kind != "circle"}


def draw_scene(scene: Scene) -> Image.Image:
    """Draw a scene, 64x64 in RGB, with smooth edges."""
    corners = Image.frombytes("RGB", (2, 2), bytes(channel for corner in scene.corners for channel in corner))
    image = corners.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))
    for shape in scene.shapes:
        left, top = math.floor(shape.x - shape.size / 2) - 1, math.floor(shape.y - shape.size / 2) - 1
        side = math.ceil(shape.size) + 3
        mask = Image.new("L", (side * FINE, side * FINE))
        x, y, size = (shape.x - left) * FINE, (shape.y - top) * FINE, shape.size * FINE
        pen = ImageDraw.Draw(mask)
        if shape.kind == "circle":
            pen.ellipse((x - size / 2, y - size / 2, x + size / 2, y + size / 2), fill=255)
        else:
            width, height = size * min(1.0, 1 / shape.aspect), size * min(1.0, shape.aspect)
            pen.polygon((_OUTLINES[shape.kind] * (width, height) + (x, y)).ravel().tolist(), fill=255)
        mask = mask.reduce(FINE)
        image.paste(shape.rgb, (left, top, left + side, top + side), mask)
    return image


# ---------------------------------------------------------------------------------------------------- sampling

_SIZES = {1: (11, 32), 2: (11, 23), 3: (10, 17)}    # pixels, by the number of shapes
_GAP, _BORDER = 4, 2                                # pixels between shapes in a line, and to the border
_ALIGNED, _DIAGONAL = 0.35, 0.65                    # `describe` decides at 0.5; what is drawn keeps away from it


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
    if count is None:
        count = 1 + int(np.searchsorted((1 / 6, 3 / 6), rng.random(), side="right"))
    if count not in _SIZES:
        raise ValueError(f"count must be 1, 2 or 3, got {count}")
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=count)]
    if must_have is not None:
        chosen[rng.integers(count)] = must_have
    tint = rng.integers(-18, 19, size=(count, 3)).tolist()
    ground = rng.integers(205, 256, size=(5, 3))
    corners = (ground[0] + (ground[1:] - ground[0]) * rng.random()).astype(int).tolist()
    aspects = rng.uniform(0.6, 1 / 0.6, size=count).tolist()
    places = _places(rng, count)
    shapes = tuple(
        Shape(kind, color, x, y, size, tuple(min(255, max(0, c + t)) for c, t in zip(COLORS[color], tints)),
              aspect if kind == "rectangle" else 1.0)
        for (color, kind), (x, y, size), tints, aspect in zip(chosen, places, tint, aspects)
    )
    return Scene(shapes, tuple(map(tuple, corners)))


def _places(rng: np.random.Generator, count: int) -> list[tuple[float, float, float]]:
    """Centres and sizes of `count` shapes that stand clearly in a row, a column or a corner, and do not touch."""
    smallest, largest = _SIZES[count]
    sizes = (smallest + (largest - smallest) * rng.random(count)).tolist()
    if count == 1:
        low = sizes[0] / 2 + _BORDER
        x, y = (low + (SIZE - 2 * low) * rng.random(2)).tolist()
        return [(x, y, sizes[0])]
    if count == 3 and rng.random() < 0.5:
        return _corner(rng, sizes)
    along = _spread(rng, sizes)
    nearest = min(b - a for a, b in zip(along, along[1:]))
    wobble = min(_ALIGNED * nearest, SIZE - 2 * _BORDER - max(sizes))           # how far they may be out of line
    low = max(sizes) / 2 + _BORDER
    base = low + (SIZE - 2 * low - wobble) * rng.random()
    across = (base + wobble * rng.random(count)).tolist()
    if rng.random() < 0.5:
        return list(zip(along, across, sizes))
    return list(zip(across, along, sizes))


def _spread(rng: np.random.Generator, sizes: list[float]) -> list[float]:
    """Centres along a line from border to border, with at least a gap between neighbours."""
    room = SIZE - 2 * _BORDER - sum(sizes) - _GAP * (len(sizes) - 1)
    cuts = np.sort(room * rng.random(len(sizes))).tolist()
    centres, used = [], float(_BORDER)
    for size, cut in zip(sizes, cuts):
        centres.append(used + cut + size / 2)
        used += size + _GAP
    return centres


def _corner(rng: np.random.Generator, sizes: list[float]) -> list[tuple[float, float, float]]:
    """An anchor, a second shape beside it, a third above or below it: the other two see each other diagonally."""
    largest = max(sizes)
    low, nearest = largest / 2 + _BORDER, largest + _GAP
    furthest = SIZE - 2 * low
    dx = nearest + (furthest - nearest) * rng.random()
    least, most = max(nearest, dx * _DIAGONAL), min(furthest, dx / _DIAGONAL)
    dy = least + (most - least) * rng.random()
    left, top = low + (furthest - dx) * rng.random(), low + (furthest - dy) * rng.random()
    turned, upturned = rng.random(2) < 0.5
    x0, x1 = (left + dx, left) if turned else (left, left + dx)
    y0, y1 = (top + dy, top) if upturned else (top, top + dy)
    return [(x0, y0, sizes[0]), (x1, y0, sizes[1]), (x0, y1, sizes[2])]


@dataclass(frozen=True)
class SceneSet:
    """Drawn scenes with their captions, and the captions of the same pictures in a mirror."""

    images: NDArray[np.uint8]            # (N, 64, 64, 3)
    captions: tuple[str, ...]            # N of them
    mirrored_captions: tuple[str, ...]   # N of them

    def __len__(self) -> int:
        return len(self.captions)


def make_scenes(n: int, rng: np.random.Generator, split: str = "train") -> SceneSet:
    """Draw n scenes of a split.

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
    images = np.empty((n, SIZE, SIZE, 3), dtype=np.uint8)
    captions, mirrored = [], []
    for i in range(n):
        if split == "unseen":
            scene = sample_scene(rng, PAIRS, must_have=HELD_OUT_PAIRS[i % len(HELD_OUT_PAIRS)])
        else:
            scene = sample_scene(rng)
        images[i] = np.asarray(draw_scene(scene))
        captions.append(scene.caption)
        mirrored.append(scene.mirrored().caption)
    return SceneSet(images, tuple(captions), tuple(mirrored))
