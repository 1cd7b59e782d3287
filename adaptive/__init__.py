"""Adaptive inference for transformer text models: each text costs what it needs and no more."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive.pipeline import AdaptivePipeline as AdaptivePipeline

__version__ = "0.1.0"
__all__ = ["AdaptivePipeline", "__version__"]

# In a checkout, routers/, exits/ and training/ lie beside this folder and are imported as
# adaptive.routers and so on; in a wheel setup.cfg has put them inside.
_root = Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file():
    __path__.append(str(_root))

_LAZY = {"AdaptivePipeline": "adaptive.pipeline"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'adaptive' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
