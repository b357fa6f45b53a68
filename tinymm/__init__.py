"""tinymm: a text-image Transformer built from nothing but arrays, each backward pass written by hand.

    tinymm.functional                the math: pure forward and backward pairs in NumPy
    tinymm.gradient_check(...)       compare a hand-written backward with finite differences
    tinymm.load("runs/text_image")   a trained model with .answer(images, questions) and .caption(images)

`import tinymm` itself loads almost nothing; each name above is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinymm.errors import UserError

if TYPE_CHECKING:
    from tinymm import functional as functional
    from tinymm.gradcheck import gradient_check as gradient_check, gradient_check_module as gradient_check_module
    from tinymm.training.checkpoints import load_run as load

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "functional", "gradient_check", "gradient_check_module", "load"]

# public name -> the module it lives in, and its name there (None: the module itself)
_LAZY: dict[str, tuple[str, str | None]] = {
    "functional": ("tinymm.functional", None),
    "gradient_check": ("tinymm.gradcheck", "gradient_check"),
    "gradient_check_module": ("tinymm.gradcheck", "gradient_check_module"),
    "load": ("tinymm.training.checkpoints", "load_run"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tinymm' has no attribute {name!r}")
    module_name, attribute = _LAZY[name]
    module = import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
