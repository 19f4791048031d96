"""How Sphinx builds these pages: `make docs`."""

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

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
napoleon_custom_sections = [("Settings", "params_style")]  # of `fit`, from the fields of `Training`


def mathml(node: nodes.Node, *, as_block: bool) -> str:
    # Browsers set nothing between a function and its argument; a thin space belongs there, though not before a bracket.
    applied = r"<mo>&ApplyFunction;</mo>(?!\s*<mo[^>]*>\()"
    try:
        made = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:  # a warning says where it is, and lets the other pages be looked at
        logging.getLogger(__name__).warning("%s In the formula %s", error, node.astext(), location=node)
        return f"<code>{html.escape(node.astext())}</code>"
    return re.sub(applied, '<mspace width="0.17em"/>', made)


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def displayed_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(
        f'<div style="margin: 0.6em 0; padding: 0.4em 0; overflow: auto hidden">{mathml(node, as_block=True)}</div>'
    )
    raise nodes.SkipNode


def setup(app: Any) -> None:
    # Browsers read MathML themselves; MathJax would have every reader fetch it from somebody's server.
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
