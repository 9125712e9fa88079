"""The configuration of the documentation's pages, which ``make docs`` builds."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from sphinx.util import inspect  # noqa: E402

import salr  # noqa: E402

project = "salr"
author = "the salr authors"
version = release = salr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # the formulas need no network
    "sphinx_copybutton",
    "sphinx_design",
    "reference_results",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_default_options = {"show-inheritance": True}
autosummary_generate = True
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
autosummary_ignore_module_all = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False

# These have pages of their own elsewhere, and no network is used to find them.
nitpick_ignore_regex = [
    ("py:.*", r"(abc|collections|enum|nn|numpy|os|pandas|pathlib|torch)\..*"),
    ("py:.*", r"(Any|Callable|Closure|Container|Generator|Iterable|Iterator|Mapping|Path|Sequence)"),
    ("py:.*", r"(Index|Module|Optimizer|Snapshot|T|Tensor|Weight|optional)"),
    ("py:.*", r"salr\.closures\.(evaluation\.Closure|snapshot\.Snapshot)"),
    ("py:.*", r"salr\.(sharpness\.dataset_loss\.Weight|optim\.averaging\.T|records\.run\.T)"),
]

html_sidebars = {page: [] for page in ("quickstart", "findings", "changelog")}  # they have no parts
html_theme = "pydata_sphinx_theme"
html_title = f"salr {release}"
html_static_path = ["_static"]
html_css_files = ["salr.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_as_you_type": True,
    "back_to_top_button": True,
}
html_context = {"default_mode": "auto"}
project_copyright = "the salr authors, MIT licence"


def escape_bars(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Show |x| in a docstring as it is written; docutils would substitute it."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line) for line in lines]


def signature_of_init(
    app: Any, what: str, name: str, thing: Any, options: object, signature: str, result: str
) -> tuple[str, str] | None:
    """Show the arguments of a wrapper's ``__init__``; its ``__new__`` takes any, to explain wrong ones."""
    if what != "class" or not issubclass(thing, salr.optim.Wrapper):
        return None
    own = inspect.signature(thing.__init__, bound_method=True)
    return inspect.stringify_signature(own, show_annotation=False), ""


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", escape_bars)
