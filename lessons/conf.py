"""Settings of the book: `pip install -e '.[book]' && sphinx-build lessons build/book`, then open build/book/index.html.

Every lesson is run and shown with its output and pictures. The pages need no internet: formulas are MathML with a font
of their own, and all scripts and styles lie beside the pages.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_book"), str(HERE.parent)]

project = "tinymm"
html_title = "tinymm: the lessons"
copyright = "tinymm contributors, MIT licence"
language = "en"

# ---- what is read ---------------------------------------------------------------------------------------------------

extensions = ["myst_nb", "sphinx_design", "mathml", "chapters", "sources", "outputs"]     # the last four are in lessons/_book
include_patterns = ["*.md", "[0-9][0-9]_*/lesson.py"]
myst_enable_extensions = ["dollarmath", "colon_fence"]

# ---- how the lessons are run ----------------------------------------------------------------------------------------

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"                # a page that is made again is run again
nb_execution_timeout = 600                 # seconds for a cell; a lesson takes less than a minute on a quiet machine
nb_execution_raise_on_error = True         # a lesson that fails makes no book
nb_merge_streams = True

# ---- how the pages look ---------------------------------------------------------------------------------------------

html_theme = "furo"                        # dark and light, search, and a layout for phones
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_search_summary = False           # it would need a server; the pages and sections are found without one
pygments_style = "default"
pygments_dark_style = "github-dark"
