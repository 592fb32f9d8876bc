"""Configuration of the documentation."""

from importlib.metadata import version as get_version

project = "gammapy-mimic"
author = "The gammapy-mimic developers"
version = release = get_version("gammapy-mimic")

extensions = [
    "sphinx.ext.mathjax",
    "sphinx_automodapi.automodapi",
    "numpydoc",
]
automodapi_toctreedirnm = "api"
automodapi_inheritance_diagram = False
numpydoc_show_class_members = False
default_role = "literal"
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2}
html_title = "gammapy-mimic"
