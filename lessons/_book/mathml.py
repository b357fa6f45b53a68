"""Formulas as MathML, which browsers draw by themselves, with STIX Two Math as the font: no script and no internet."""

import re
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)
MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", MATHML)

SPACE = "0.167em"
FUNCTIONS = {"arg", "cos", "exp", "lim", "ln", "log", "max", "min", "sin", "tan", "tanh"}
CLOSING = {")", "]", "}", "|", "!", "⊤", "′"}
CAPITALS = set("ΓΔΘΛΞΠΣΥΦΨΩ")
TIGHT = {"/", "|", "‖"}
LETTERS = {"∞", "∂", "…", "⋯"}     # not operators, for the spaces around them
RELATIONS = {"=", "≈", "≤", "≥", "<", ">", "→", "←", "≠"}

# Latin, Greek, punctuation, super- and subscripts, letter-like, arrows, operators, brackets, shapes, math letters
CHARACTERS = [*range(0x20, 0x17F), *range(0x2B0, 0x400), *range(0x2000, 0x2100), *range(0x2100, 0x2400), *range(0x25A0, 0x2600),
              *range(0x27C0, 0x2800), *range(0x2900, 0x2B00), *range(0x1D400, 0x1D800)]


def to_mathml(latex: str, display: str) -> ElementTree.Element:
    """The <math> element of a formula; `display` is "inline" or "block".

    Raises:
        ValueError: the formula has a command that is not known.
    """
    root = ElementTree.fromstring(convert(latex.strip(), display=display))
    unknown = re.findall(r"\\\w*", "".join(root.itertext()))
    if unknown:
        raise ValueError(f"unknown command {', '.join(unknown)} in the formula {latex}")
    for element in list(root.iter()):
        set_letter(element)
        join_letters(element)
        set_spaces(element)
    return root


def set_letter(element: ElementTree.Element) -> None:
    """A single sign as TeX sets it."""
    if element.text in LETTERS | FUNCTIONS:
        element.tag = f"{{{MATHML}}}mi"
    elif element.text in CAPITALS and name_of(element) == "mi":
        element.set("mathvariant", "normal")
    elif element.text in TIGHT:
        element.set("lspace", "0")
        element.set("rspace", "0")
    elif name_of(element) == "msup" and "".join(element[1].itertext()) == "′":      # this sign is small and high by itself
        element.tag, element[1].tag = f"{{{MATHML}}}mrow", f"{{{MATHML}}}mi"
    elif element.text == "―":                  # over a mean: one that browsers stretch
        element.text = "‾"


def join_letters(parent: ElementTree.Element) -> None:
    """The upright letters of a word are one element, which is set as a word."""
    if len(parent) > 1 and all(name_of(child) == "mi" and child.get("mathvariant") == "normal" for child in parent):
        word = ElementTree.Element(f"{{{MATHML}}}mi")
        word.text = "".join(parent.itertext())
        parent[:] = [word]


def set_spaces(parent: ElementTree.Element) -> None:
    """Spaces as TeX has them: around log and its like, and none behind a minus that is only a sign."""
    if name_of(parent) not in ("mrow", "math", "mstyle", "mtd"):
        return
    spaced, before = [], None
    for element in list(parent):
        if name_of(element) == "mo" and element.text in ("−", "+", "-") and before is not None \
                and name_of(before) == "mo" and before.text not in CLOSING:
            element.set("form", "prefix")
        function, followed = is_function(element), before is not None and is_function(before)
        ordinary = name_of(element) not in ("mo", "mspace")
        if before is not None and (function and name_of(before) not in ("mo", "mspace") or followed and ordinary):
            spaced.append(ElementTree.Element(f"{{{MATHML}}}mspace", width=SPACE))
        spaced.append(element)
        before = element
    parent[:] = spaced


def name_of(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def is_function(element: ElementTree.Element) -> bool:
    """Is it log, or log with an index?"""
    if name_of(element) in ("msub", "msup", "munder") and len(element):
        element = element[0]
    return element.text in FUNCTIONS


def pieces(root: ElementTree.Element) -> list[ElementTree.Element]:
    """A formula in a line of text, cut behind commas and relations, so that the line may break there."""
    row = root[0] if len(root) == 1 and name_of(root[0]) == "mrow" else root
    parts, depth = [[]], 0
    for element in row:
        parts[-1].append(element)
        if name_of(element) == "mo":
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(element.text, 0)
            if depth == 0 and element.text in RELATIONS | {","} and element is not row[-1]:
                parts.append([])
    cut = []
    for part in parts:
        math = ElementTree.Element(f"{{{MATHML}}}math", root.attrib)
        math.extend(part)
        cut.append(math)
    return cut


def formula(node, display: str) -> ElementTree.Element | None:
    try:
        return to_mathml(node.astext(), display)
    except ValueError as error:
        logger.warning(str(error), location=node)
        return None


def visit_inline(self, node) -> None:
    root = formula(node, "inline")
    parts = [node.astext()] if root is None else [ElementTree.tostring(piece, encoding="unicode") for piece in pieces(root)]
    before, after = self.encode(node.get("before", "")), self.encode(node.get("after", ""))
    parts[0] = before + parts[0]
    parts[-1] += after                     # often the same part
    inside = "<wbr>".join(f'<span class="whole">{part}</span>' for part in parts)
    self.body.append(self.starttag(node, "span", "", CLASS="math") + inside + "</span>")
    raise nodes.SkipNode


def visit_block(self, node) -> None:
    root = formula(node, "block")
    inside = node.astext() if root is None else ElementTree.tostring(root, encoding="unicode")
    self.body.append(self.starttag(node, "div", "", CLASS="math", tabindex="0") + inside + "</div>")
    raise nodes.SkipNode


def take_punctuation(app, doctree, docname: str) -> None:
    """A bracket before a formula and a full stop behind it stay on its line."""
    for node in list(doctree.findall(nodes.math)):
        siblings, place = node.parent, node.parent.index(node)
        if place and isinstance(siblings[place - 1], nodes.Text):
            text, node["before"] = re.fullmatch(r"(.*?)([(“‘]*)", siblings[place - 1], re.S).groups()
            siblings[place - 1] = nodes.Text(text)
        if place + 1 < len(siblings) and isinstance(siblings[place + 1], nodes.Text):
            node["after"], text = re.fullmatch(r"([.,;:?!)”’]*(?:-\w+)?)(.*)", siblings[place + 1], re.S).groups()
            siblings[place + 1] = nodes.Text(text)


def narrow_radicals(font) -> None:
    """Give the tall radical signs the width of the small one: for every root Chromium keeps room for the widest."""
    variants, small = font["MATH"].table.MathVariants, font.getBestCmap()[ord("√")]
    construction = variants.VertGlyphConstruction[variants.VertGlyphCoverage.glyphs.index(small)]
    width = font["hmtx"][small][0]
    tall = {record.VariantGlyph for record in construction.MathGlyphVariantRecord} - {small}
    for name in tall | {part.glyph for part in construction.GlyphAssembly.PartRecords}:
        advance, bearing = font["hmtx"][name]
        font["glyf"][name].coordinates.scale((width / advance, 1))
        font["glyf"][name].recalcBounds(font["glyf"])
        font["hmtx"][name] = width, round(bearing * width / advance)


def write_font(app, exception) -> None:
    """Put the part of the font that formulas need beside the pages."""
    if exception or app.builder.format != "html":
        return
    source = Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    target = Path(app.outdir) / "_static" / "math.woff"
    if target.exists():
        return
    options = subset.Options(flavor="woff", layout_features=["*"], hinting=False, notdef_outline=True)
    with subset.load_font(source, options) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=CHARACTERS)
        subsetter.subset(font)
        narrow_radicals(font)
        subset.save_font(font, target, options)


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("doctree-resolved", take_punctuation)
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
