"""How Sphinx builds these pages: `make docs`."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from tightbound import __version__

project = "tightbound"
author = "The tightbound developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tightbound {__version__}"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False  # torch's own docstrings would come along
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def displayed_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    # Browsers read MathML themselves; MathJax would have every reader fetch it from somebody's server.
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
