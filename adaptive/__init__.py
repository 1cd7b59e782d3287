"""Adaptive inference for transformer text models: each text costs what it needs and no more."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive.certificate.promises import Certificate as Certificate
    from adaptive.config.load import load_recipe as load_recipe
    from adaptive.config.recipe import Recipe as Recipe
    from adaptive.errors import AdaptiveError as AdaptiveError
    from adaptive.errors import BuildError as BuildError
    from adaptive.errors import BundleError as BundleError
    from adaptive.errors import ConfigError as ConfigError
    from adaptive.errors import DataError as DataError
    from adaptive.errors import FamilyError as FamilyError
    from adaptive.errors import InputError as InputError
    from adaptive.errors import TargetError as TargetError
    from adaptive.measure.curves import Curve as Curve
    from adaptive.pipeline import AdaptivePipeline as AdaptivePipeline
    from adaptive.public import build as build
    from adaptive.public import certify as certify
    from adaptive.public import curve as curve
    from adaptive.public import evaluate as evaluate
    from adaptive.public import load_data as load_data
    from adaptive.public import report as report
    from adaptive.types import Policy as Policy
    from adaptive.types import Target as Target

__version__ = "0.1.0"
__all__ = [
    "AdaptiveError",
    "AdaptivePipeline",
    "BuildError",
    "BundleError",
    "Certificate",
    "ConfigError",
    "Curve",
    "DataError",
    "FamilyError",
    "InputError",
    "Policy",
    "Recipe",
    "Target",
    "TargetError",
    "__version__",
    "build",
    "certify",
    "curve",
    "evaluate",
    "load_data",
    "load_recipe",
    "report",
]

# In a checkout, routers/, exits/ and training/ lie beside this folder and are imported as
# adaptive.routers and so on; in a wheel setup.cfg has put them inside.
_root = Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file():
    __path__.append(str(_root))

_FROM = {
    "config": ("Recipe", "load_recipe"),
    "measure.curves": ("Curve",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "pipeline": ("AdaptivePipeline",),
    "certificate.promises": ("Certificate",),
    "public": ("build", "certify", "curve", "evaluate", "load_data", "report"),
    "types": ("Policy", "Target"),
}
_LAZY = {name: f"adaptive.{module}" for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'adaptive' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
