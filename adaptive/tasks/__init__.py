"""What an answer is, one file a task. To add one is to add a file and an entry to `TASKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adaptive.tasks.base import Task
from adaptive.tasks.multi_label import MultiLabel
from adaptive.tasks.regression import Regression
from adaptive.tasks.single_label import SINGLE_LABEL, SingleLabel

TASKS: Mapping[str, Callable[..., Task]] = {
    "single_label": SingleLabel,
    "multi_label": MultiLabel,
    "regression": Regression,
}

__all__ = ["SINGLE_LABEL", "TASKS", "Task", "task_from_json"]


def task_from_json(name: object, values: Mapping[str, Any]) -> Task:
    """The task of this name, with whatever `Task.to_json` tells.

    Raises:
        ValueError: there is no such task, or a value that it cannot have.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"no task is called {name!r}; known: {', '.join(TASKS)}")
    try:
        return TASKS[name](**values)
    except TypeError:
        raise ValueError(f"{name}: has no use for some of {sorted(values)}") from None
