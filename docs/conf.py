"""How Sphinx makes a site of these pages: `sphinx-build -W docs outputs/site`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the commands

project = "neurosim"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]

html_theme = "furo"
html_title = "neurosim"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"  # what docstrings have in backticks
