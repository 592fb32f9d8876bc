"""Background templates: counts of OFF observations over their exposure."""

from .bins import TemplateBins
from .core import (
    make_group_counts,
    make_template,
    make_template_counts,
    make_templates,
)
from .counts import TemplateCounts
from .groups import (
    describe_group,
    make_group_labels,
    make_group_table,
    select_livetime,
)
from .own import make_own_counts, make_own_template

__all__ = [
    "TemplateBins",
    "TemplateCounts",
    "describe_group",
    "make_group_counts",
    "make_group_labels",
    "make_group_table",
    "make_own_counts",
    "make_own_template",
    "make_template",
    "make_template_counts",
    "make_templates",
    "select_livetime",
]
