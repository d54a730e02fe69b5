"""How Sphinx makes a site of these pages: `sphinx-build -W docs outputs/site`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ABOUT = [sys.executable, "-m", "typer", "neurosim.cli", "utils", "docs", "--name", "neurosim"]
said = subprocess.run(ABOUT, check=True, capture_output=True, text=True).stdout
(HERE / "commands.inc").write_text(said.partition("## ")[1] + said.partition("## ")[2])

project = "neurosim"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

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
