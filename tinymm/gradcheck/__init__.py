"""Gradient checks: `gradient_check` for any pair, and `cases` for all that tinymm has.

Read checker, then numeric (how a derivative is measured) and report.
"""

from tinymm.gradcheck.checker import FLOOR, gradient_check, gradient_check_module
from tinymm.gradcheck.report import GradientReport, GradientRow

__all__ = ["FLOOR", "GradientReport", "GradientRow", "gradient_check", "gradient_check_module"]
