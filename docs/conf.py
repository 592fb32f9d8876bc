"""Configuration of the documentation.

The examples run when it is built; without them: ``python -m sphinx -D plot_gallery=0``.
"""

import warnings
from importlib.metadata import version as get_version

project = "gammapy-mimic"
author = "The gammapy-mimic developers"
version = release = get_version("gammapy-mimic")

extensions = [
    "sphinx.ext.mathjax",
    "sphinx_automodapi.automodapi",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
automodapi_toctreedirnm = "api"
automodapi_inheritance_diagram = False
numpydoc_show_class_members = False
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "reference_url": {"gammapy_mimic": None},
    "write_computation_times": False,
}
# a warning in an example is an error, one of Sphinx's extensions is not
warnings.filterwarnings(
    "error", module="__main__|astropy|gammapy|matplotlib|numpy|regions|scipy"
)
default_role = "literal"
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2}
html_title = "gammapy-mimic"
