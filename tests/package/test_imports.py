"""What `import adaptive` gives, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import adaptive

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pydantic", "numpy")

# scipy is not among them, since transformers loads it with its models.
UNNEEDED = (
    *(f"adaptive.policy.{name}" for name in ("search", "fronts")),
    *(f"adaptive.certificate.{name}" for name in ("certify", "claims", "assumptions")),
    *(f"adaptive.measure.{name}" for name in ("timing", "curves", "evaluation")),
    *(f"adaptive.measure.{name}" for name in ("explain", "attributions")),
    *("adaptive.certifying.recertify", "adaptive.risk", "adaptive.training", "adaptive.cli"),
    *("sklearn", "pandas", "matplotlib", "datasets", "peft", "onnxruntime", "captum", "rich"),
    *("adaptive.serve", "fastapi", "uvicorn", "prometheus_client"),
)


def test_public_names() -> None:
    # names that stay; to add or remove one is a line in the changelog
    assert sorted(adaptive.__all__) == [
        *("AdaptiveError", "AdaptivePipeline", "BuildError", "BundleError", "Certificate"),
        *("ConfigError", "Curve", "DataError", "FamilyError", "InputError", "Policy", "Recipe"),
        *("Target", "TargetError", "__version__", "build", "certify", "curve", "evaluate"),
        *("load_data", "load_recipe", "report"),
    ]
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


def test_opening_a_bundle_loads_nothing_that_only_building_and_certifying_need(
    tiny_bundle: Path,
) -> None:
    code = (
        "import sys; from adaptive import AdaptivePipeline\n"
        "AdaptivePipeline.from_config(sys.argv[1])('word1 word2')\n"
        f"print(*sorted({set(UNNEEDED)!r} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tiny_bundle)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_importing_the_pipeline_stays_within_its_budget_of_modules() -> None:
    """Counted, since times depend on the machine; 109 when this was written."""
    code = "import sys, adaptive.pipeline; print(*(m for m in sys.modules if 'adaptive' in m))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(run.stdout.split()) <= 112
