"""Logs of inspect-ai, read by its own reader: one log for each model, `.eval` or `.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adaptive.errors import DataError
from adaptive.recorded.faults import Faults
from adaptive.recorded.files import Row
from adaptive.recorded.imports.merging import Part, files_below, merged

VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # correct, partial, incorrect, no answer


def rows(path: Path, faults: Faults) -> list[Row]:
    """Requests of a folder of logs.

    Raises:
        DataError: inspect-ai is not installed.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise DataError(
            f"{path}: reading logs of inspect-ai needs it; pip install 'adaptive-cascade[inspect]'"
        ) from None
    files = [each for each in files_below(path, "*") if each.suffix in (".eval", ".json")]
    return merged(parts([read_eval_log(str(file)) for file in files], faults), faults)


def parts(logs: list[Any], faults: Faults) -> Iterator[Part]:
    """A part for each sample of each log; of several epochs the first, one draw a request."""
    number = 0
    for log in logs:
        model = str(log.eval.model).split("/")[-1]
        for sample in log.samples or []:
            number += 1
            if sample.epoch != 1:
                continue
            key = f"{log.eval.task}:{sample.id}"
            request = {"id": key, "group": str(log.eval.task), "prompt": _text(sample.input)}
            if isinstance(sample.target, str):
                request["right"] = sample.target
            fields = _fields(sample, number, model, faults)
            if fields is not None:
                yield number, key, request, model, fields


def _fields(sample: Any, number: int, model: str, faults: Faults) -> dict[str, Any] | None:
    score = next(iter((sample.scores or {}).values()), None)
    if score is None:
        faults.add(number, "has no score", model)
        return None
    value = score.value
    fields: dict[str, Any] = {"score": VALUES.get(value, value), "answer": score.answer}
    output = sample.output
    fields["characters"] = len(output.completion)
    fields["model"] = output.model or None
    if output.choices:
        fields["finish_reason"] = output.choices[0].stop_reason
        fields |= _logprobs(output.choices[0])
    if output.usage is not None:
        fields["tokens_in"] = output.usage.input_tokens
        fields["tokens_out"] = output.usage.output_tokens
    if output.time is not None:
        fields["milliseconds"] = 1000.0 * output.time
    return fields


def _logprobs(choice: Any) -> dict[str, Any]:
    found = getattr(choice, "logprobs", None)
    values = [each.logprob for each in found.content] if found is not None else []
    return {"logprob_mean": min(sum(values) / len(values), 0.0)} if values else {}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "\n".join(each.text for each in value)
