"""What an answer is: one class, any number of classes, or a number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from adaptive.cells import CLASSES, Cells, NumberCells, SetCells
from adaptive.config.fields import Float, NotNegative, Section


class SingleLabelConfig(Section):
    """One class a text."""

    kind: Literal["single_label"] = "single_label"

    @property
    def cells(self) -> Cells:
        """How the label column is read."""
        return CLASSES

    @property
    def exact(self) -> bool:
        """Whether answers are right or wrong, and nothing between."""
        return True

    @property
    def one_output(self) -> bool:
        """Whether a head has one output, whatever the checkpoint's has."""
        return False


class MultiLabelConfig(Section):
    """Any number of classes a text, see `adaptive.tasks.multi_label`."""

    kind: Literal["multi_label"]
    loss: Literal["f1", "subset"] = "f1"
    # between the labels of a cell of text
    separator: Annotated[str, Field(min_length=1, max_length=1)] = "|"
    # of all classes' scores; None = one a class, fitted on the fit rows
    threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None

    @property
    def cells(self) -> Cells:
        """How the label column is read."""
        return SetCells(self.separator)

    @property
    def exact(self) -> bool:
        """Whether answers are right or wrong, and nothing between."""
        return self.loss == "subset"

    @property
    def one_output(self) -> bool:
        """Whether a head has one output, whatever the checkpoint's has."""
        return False


class RegressionConfig(Section):
    """A number a text, see `adaptive.tasks.regression`."""

    kind: Literal["regression"]
    scale: tuple[Float, Float]  # the least and the greatest label
    tolerance: NotNegative  # within which answers are the same

    @model_validator(mode="after")
    def _ascends(self) -> RegressionConfig:
        low, high = self.scale
        if low >= high:
            raise ValueError(f"the scale must ascend, found {low:g} to {high:g}")
        if self.tolerance >= high - low:
            raise ValueError(
                f"a tolerance of {self.tolerance:g} is the whole of the scale or more; all answers "
                "would be the same"
            )
        return self

    @property
    def cells(self) -> Cells:
        """How the label column is read."""
        return NumberCells(*self.scale)

    @property
    def exact(self) -> bool:
        """Whether answers are right or wrong, and nothing between."""
        return False

    @property
    def one_output(self) -> bool:
        """Whether a head has one output, whatever the checkpoint's has."""
        return True


def _named(value: Any) -> Any:
    """A kind alone, for short."""
    return {"kind": value} if isinstance(value, str) else value


TaskConfig = Annotated[
    Annotated[SingleLabelConfig | MultiLabelConfig | RegressionConfig, Field(discriminator="kind")],
    BeforeValidator(_named),
]
