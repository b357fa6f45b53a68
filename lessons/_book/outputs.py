"""What the lessons print and draw: long lines are folded, and each picture is named for those who do not see it."""

import html
import re
from itertools import zip_longest

from docutils import nodes

LONGEST = 96     # signs in a line that keeps its columns
OUTPUT = re.compile(r'(<div class="output [^"]*"><div class="highlight"><pre>(?:<span></span>)?)(.*?)(</pre>)', re.S)
SHOW = re.compile(r'\bshow\(\w+, "\d\d_(\w+)"')


def fold_lines(app, pagename: str, template: str, context: dict, doctree) -> None:
    if doctree is not None and "body" in context:
        def fold(match: re.Match) -> str:
            return match[1] + "\n".join(map(folded, match[2].split("\n"))) + match[3]

        context["body"] = OUTPUT.sub(fold, context["body"])


def folded(line: str) -> str:
    whole = line.count("<span") == line.count("</span>")
    long = len(html.unescape(re.sub("<[^>]+>", "", line))) > LONGEST
    return f'<span class="long">{line}</span>' if long and whole else line


def name_pictures(app, doctree) -> None:
    for cell in doctree.findall(lambda node: isinstance(node, nodes.container) and "cell" in node["classes"]):
        names = SHOW.findall(cell.astext())
        for name, picture in zip_longest(names, cell.findall(nodes.image)):
            if picture is not None:
                picture["alt"] = f"Picture: {(name or 'of the lesson').replace('_', ' ')}. The code above draws it."


def setup(app):
    app.connect("doctree-read", name_pictures)
    app.connect("html-page-context", fold_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
