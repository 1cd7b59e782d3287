"""A slider over the target in a notebook: the cheapest policy for each, ringed on the curve."""

from __future__ import annotations

from typing import Any

from adaptive.measure.curves import Curve, Point, plot

LEAST, MOST, STEP = 0.9, 1.0, 0.0025  # shares of the full tier's quality


def slider(curve: Curve, target: float = 0.99) -> Any:
    """The curve with a slider over the share of the full tier's quality that is to be kept.

    Where ipywidgets is not installed, the picture alone, with the policy for `target` ringed.

    Raises:
        ImportError: matplotlib is not installed (the extra `plots`).
    """
    try:
        import ipywidgets
    except ImportError:
        return picture(curve, target)
    chosen = ipywidgets.FloatSlider(
        value=target,
        min=LEAST,
        max=MOST,
        step=STEP,
        description="keep",
        readout_format=".2%",
        continuous_update=False,
    )
    shown, told = ipywidgets.Output(), ipywidgets.Label()

    def show(_: Any = None) -> None:
        told.value = line(curve, chosen.value)
        shown.clear_output(wait=True)
        with shown:
            from IPython.display import display

            display(picture(curve, chosen.value))  # type: ignore[no-untyped-call]

    chosen.observe(show, "value")
    show()
    return ipywidgets.VBox([chosen, told, shown])


def line(curve: Curve, target: float) -> str:
    """The cheapest policy that keeps the target, in a line."""
    found = _at(curve, target)
    if found is None:
        return f"no policy keeps {target:.2%} of the full tier's {curve.quality}"
    full = max(curve.of("tier"), key=lambda each: each.cost)
    return (
        f"{found.name}: {curve.quality} {found.quality:.2%}, {found.cost:.4g} {curve.unit} a text, "
        f"{full.cost / found.cost:.1f} times less than the full tier"
    )


def picture(curve: Curve, target: float) -> Any:
    """The curve's figure, with the policy for the target ringed."""
    figure, found = plot(curve), _at(curve, target)
    (axes,) = figure.axes
    if found is not None:
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.8}
        axes.scatter([found.cost], [found.quality], 260, zorder=6, **ring)
    return figure


def _at(curve: Curve, target: float) -> Point | None:
    try:
        return curve.at(target)
    except ValueError:
        return None
