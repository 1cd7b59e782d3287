"""What `import adaptive` gives, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import adaptive

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pydantic", "numpy")


def test_public_names() -> None:
    assert sorted(adaptive.__all__) == ["AdaptivePipeline", "__version__"]
    assert dir(adaptive) == sorted(adaptive.__all__)
    for name in adaptive.__all__:
        assert getattr(adaptive, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'adaptive' has no attribute 'nothing'"):
        _ = adaptive.nothing


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = f"import sys, adaptive; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
