"""Configuration of the documentation.

The examples run when it is built; without them: ``python -m sphinx -D plot_gallery=0``.
"""

import warnings
from importlib.metadata import version as get_version
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

project = "gammapy-mimic"
author = "The gammapy-mimic developers"
version = release = get_version("gammapy-mimic")

extensions = [
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_automodapi.automodapi",
    "sphinx_design",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
automodapi_toctreedirnm = "reference/api"
automodapi_inheritance_diagram = False
# types are in the text of the parameters
autodoc_typehints = "none"
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

# formulae need no network: one file of a package that has all of MathJax
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent
mathjax_path = "tex-svg.js"

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
html_title = "gammapy-mimic"
# pages without others beside them
html_sidebars = {"getting_started": []}
html_static_path = ["_static", str(mathjax / "static/mathjax" / mathjax_path)]
html_css_files = ["tables.css"]

INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "astropy": "https://docs.astropy.org/en/stable/",
    "gammapy": "https://docs.gammapy.org/2.1/",
    "regions": "https://astropy-regions.readthedocs.io/en/stable/",
}
"""Pages of other projects that names link to, where they can be reached."""


def find_inventories(folder):
    """Keep the inventories in a folder. Without a network, what is there is used."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, url in INVENTORIES.items():
        path = folder / f"{name}.inv"
        try:
            with urlopen(f"{url}objects.inv", timeout=5) as answer:
                path.write_bytes(answer.read())
        except OSError:
            pass
        if path.exists():
            yield name, (url, str(path))


intersphinx_mapping = dict(find_inventories(Path(__file__).parent / "_build/inventory"))
