"""Background templates: counts of OFF observations over their exposure."""

from .bins import TemplateBins
from .core import make_template, make_templates
from .counts import TemplateCounts
from .groups import describe_group, make_group_labels, select_livetime
from .rates import smooth_rate

__all__ = [
    "TemplateBins",
    "TemplateCounts",
    "describe_group",
    "make_group_labels",
    "make_template",
    "make_templates",
    "select_livetime",
    "smooth_rate",
]
