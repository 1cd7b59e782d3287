"""LLMRouter's routing data: JSON lines, one for each request and model.

A line has `query`, `task_name`, `ground_truth`, `model_name`, `response`, `performance` in [0, 1],
`input_tokens`, `output_tokens`, `response_time` in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row, read_rows
from adaptive.recorded.imports.merging import Part, files_below, merged


def rows(path: Path, faults: Faults) -> list[Row]:
    """Requests of a file, or of a folder of them."""
    return merged(_parts(path, faults), faults)


def _parts(path: Path, faults: Faults) -> Iterator[Part]:
    numbers: dict[str, int] = {}
    for file in files_below(path, "*.jsonl*"):
        for number, line in read_rows(file, faults):
            names = ("task_name", "query", "ground_truth", "metric")
            told = "\0".join(str(line.get(name)) for name in names)
            key = str(numbers.setdefault(told, len(numbers) + 1))
            request = {"id": key, "group": line.get("task_name"), "prompt": line.get("query")}
            if isinstance(line.get("ground_truth"), str):
                request["right"] = line["ground_truth"]
            seconds = line.get("response_time")
            fields: dict[str, Any] = {
                "score": line.get("performance"),
                "answer": line.get("response"),
                "characters": len(str(line.get("response") or "")),
                "tokens_in": line.get("input_tokens"),
                "tokens_out": line.get("output_tokens"),
            }
            if isinstance(seconds, int | float):
                fields["milliseconds"] = 1000.0 * seconds
            yield number, key, request, str(line.get("model_name")), fields
