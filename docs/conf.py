"""How Sphinx makes a site of these pages: `sphinx-build -W docs outputs/site`.

With `-t quick` tutorials that take minutes are not run.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # kernels

from executed import notebook  # noqa: E402

ABOUT = [sys.executable, "-m", "typer", "neurosim.cli", "utils", "docs", "--name", "neurosim"]
said = subprocess.run(ABOUT, check=True, capture_output=True, text=True).stdout
(HERE / "commands.inc").write_text(said.partition("## ")[1] + said.partition("## ")[2])

project = "neurosim"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

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

nb_execution_mode = "force"
nb_execution_excludepatterns = ["tutorials/rates-and-spikes.md"] if "quick" in tags else []  # noqa: F821
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True


def setup(app):
    """Tutorials are read as notebooks."""

    def read(_, name, source):
        if name.startswith("tutorials/"):
            source[0] = notebook(source[0])

    app.connect("source-read", read)
