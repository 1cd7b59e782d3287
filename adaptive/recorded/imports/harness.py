"""Sample logs of lm-evaluation-harness: `samples_<task>_<date>.jsonl` in a folder for each model.

A sample has `doc_id`, `target`, `arguments`, `resps`, `filtered_resps`, and a column for each
metric; newer ones name the metrics (`metrics`), the filter and hashes of the document. Of several
filters the last one that a file has is read, of several metrics the first. The request is the
document: its task and its hash (else its number).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row, read_rows
from adaptive.recorded.imports.merging import Part, files_below, merged

KNOWN = ("exact_match", "acc_norm", "acc", "pass@1", "f1", "em", "prompt_level_strict_acc")
_DATE = 26  # letters of the date behind the task in a file's name


def rows(path: Path, faults: Faults) -> list[Row]:
    """Requests of a folder that holds one folder of sample logs for each model."""
    return merged(_parts(path, faults), faults)


def _parts(path: Path, faults: Faults) -> Iterator[Part]:
    for file in files_below(path, "samples_*.jsonl*"):
        model = file.parent.name.split("__")[-1]
        task = _task(file)
        samples = read_rows(file, faults)
        filters = [sample.get("filter") for _, sample in samples]
        metric = _metric(samples[0][1]) if samples else None
        for number, sample in samples:
            if sample.get("filter") != filters[-1]:
                continue
            key = f"{task}:{sample.get('doc_hash') or sample.get('doc_id')}"
            if metric is None or metric not in sample:
                faults.add(number, f"has no metric of {', '.join(KNOWN)}", model)
                continue
            request = {"id": key, "group": task, "prompt": _prompt(sample.get("arguments"))}
            target = sample.get("target")
            if isinstance(target, str):
                request["right"] = target
            fields: dict[str, Any] = {"score": sample[metric]}
            answer = _first(sample.get("filtered_resps"))
            if isinstance(answer, str):
                fields |= {"answer": answer}
            written = _first(sample.get("resps"))
            if isinstance(written, str):
                fields |= {"characters": len(written)}
            yield number, key, request, model, fields


def _task(file: Path) -> str:
    name = file.name.removeprefix("samples_").split(".jsonl")[0]
    head, _, last = name.rpartition("_")
    return head if head and last[:2] == "20" and len(last) <= _DATE else name


def _metric(sample: Mapping[str, Any]) -> str | None:
    named = sample.get("metrics")
    listed = named if isinstance(named, list) else KNOWN
    return next((name for name in listed if isinstance(sample.get(name), int | float)), None)


def _prompt(arguments: Any) -> str | None:
    """The first text of the first request."""
    if isinstance(arguments, Mapping):  # {"gen_args_0": {"arg_0": prompt, ..}}
        first = next(iter(arguments.values()), None)
        found = first.get("arg_0") if isinstance(first, Mapping) else None
    else:
        found = _first(arguments)
    return found if isinstance(found, str) else None


def _first(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value
