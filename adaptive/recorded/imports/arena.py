"""RouterArena's cached results: one file of JSON lines for each model, in a folder.

A line has `global_index`, `question`, `llm_selected`, `generated_answer`, `token_usage` and, once
evaluated, `evaluation_result` with `score`, `ground_truth`, `metric` and `inference_cost`. Lines
whose call failed (`success` is false) have no outcome and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row, read_rows
from adaptive.recorded.imports.merging import Part, files_below, merged

_PLACE = re.compile(r"_\d+$")


def rows(path: Path, faults: Faults) -> list[Row]:
    """Requests of a folder of cached results."""
    return merged(_parts(path, faults), faults)


def _parts(path: Path, faults: Faults) -> Iterator[Part]:
    for file in files_below(path, "*.jsonl*"):
        for number, line in read_rows(file, faults):
            result = line.get("evaluation_result")
            if not line.get("success", True) or not isinstance(result, Mapping):
                continue
            key, model = str(line.get("global_index")), str(line.get("llm_selected"))
            request = {"id": key, "group": _PLACE.sub("", key), "prompt": line.get("question")}
            usage = line.get("token_usage")
            usage = usage if isinstance(usage, Mapping) else {}
            fields: dict[str, Any] = {
                "score": result.get("score"),
                "answer": result.get("extracted_answer"),
                "characters": len(str(line.get("generated_answer") or "")),
                "tokens_in": usage.get("input_tokens"),
                "tokens_out": usage.get("output_tokens"),
                "cost": result.get("inference_cost"),
            }
            yield number, key, request, model, fields
