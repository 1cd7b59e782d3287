"""From results to the record, and to a few lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu.results import FULL, POLICY, read

Lines = list[dict[str, Any]]


def write_record(results: Path, file: Path) -> None:
    """The record of results of a GPU.

    Raises:
        SystemExit: they are of no GPU, or of tiny shapes.
    """
    found = read(results)
    if found["about"]["gpu"] is None or found["about"]["small"]:
        raise SystemExit(f"{results.name}: not measured on a GPU at full size, so no record of one")
    file.write_text(json.dumps(record_of(found), indent=1) + "\n", encoding="utf-8")


def record_of(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that are quoted, and the lines that they come from."""
    stages = {name: stage["pieces"] for name, stage in found["stages"].items()}
    alone = [*lines_of(stages, "full_only"), *lines_of(stages, "large")]
    patterns = list(lines_of(stages, "patterns"))
    return {
        **found["about"],
        "parity": stages.get("parity", {}),
        "full_only_over_fastest": over_fastest(alone),
        "realised_over_ideal": [
            {key: line[key] for key in ("shape", "batch", "way", "work_saved")}
            | {"value": line["realised_over_ideal"]}
            for line in patterns
            if "realised_over_ideal" in line
        ],
        "certificate": stages.get("certified", {}).get("certify"),
        "accuracy": stages.get("certified", {}).get("accuracy"),
        "command_line": stages.get("command_line", {}).get("certify"),
        "certified": certified_lines(stages),
        "breakdown": stages.get("breakdown", {}),
        "mfu": stages.get("mfu", {}),
        "lines": [*alone, *patterns, *lines_of(stages, "certified")],
        "stages": {
            name: {key: value for key, value in stage.items() if key not in ("pieces", "until")}
            for name, stage in found["stages"].items()
        },
    }


def lines_of(stages: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Lines of a stage's pieces, as far as they were measured."""
    for piece in stages.get(name, {}).values():
        yield from piece.get("lines", [])


def over_fastest(lines: Lines) -> dict[str, Any]:
    """Our full tier's texts a second over the fastest baseline's, by shape and batch size."""
    found: dict[str, Any] = {}
    for line in lines:
        if line["way"] == FULL and line.get("over_fastest"):
            found.setdefault(line["shape"], {})[str(line["batch"])] = line["over_fastest"]["value"]
    return found


def certified_lines(stages: dict[str, Any]) -> Lines:
    """Time of the fastest way to run the full tier over the policy's, by batch size."""
    verdict = stages.get("certified", {}).get("certify", {}).get("verdict")
    found = []
    for line in lines_of(stages, "certified"):
        if line["way"] == POLICY and line.get("over_fastest"):
            fastest = line["over_fastest"]
            found.append(
                {
                    "data": line["shape"],
                    "batch": line["batch"],
                    "verdict": verdict,  # None where another policy than a tested one ran
                    "time_ratio_over_fastest_full": fastest["value"],
                    "fastest": fastest["way"],
                    "p50_ratio_over_fastest_full": round(1 / fastest["p50_ratio"], 3),
                    "p50_fastest": fastest["p50_way"],
                    "p50_milliseconds": line["p50_milliseconds"],
                    "p99_milliseconds": line["p99_milliseconds"],
                    "texts_per_second": line["texts_per_second"],
                }
            )
    return found


def summary(results: Path) -> list[str]:
    """What came of every stage, in lines of text."""
    found = read(results)
    if "about" not in found:
        return ["nothing was measured"]
    told = record_of(found)
    lines = [*map(speed_line, told["lines"])]
    for name, stage in found["stages"].items():
        seconds, count = stage.get("seconds"), len(stage["pieces"])
        left = ", ".join(stage.get("left_out", []))
        lines.append(f"{name}: {stage['state']}, {seconds} s, {count} pieces; left out: {left}")
        errors = {p: v["error"] for p, v in stage["pieces"].items() if "error" in v}
        lines += [f"  {piece}: {error[:160]}" for piece, error in errors.items()]
    for name in ("full_only_over_fastest", "realised_over_ideal", "certified"):
        values = told[name] if isinstance(told[name], list) else [told[name]]
        lines += [f"{name}:", *(f"  {json.dumps(each)}" for each in values)]
    certificate = told["certificate"] or {}
    short = {k: v for k, v in certificate.items() if k not in ("front_costs", "p_values", "costs")}
    lines.append(f"certificate: {json.dumps(short)}")
    lines.append(f"accuracy: {json.dumps(told['accuracy'])}")
    about = {key: found["about"].get(key) for key in ("gpu", "dtype", "versions")}
    return [*lines, json.dumps(about)]


def speed_line(line: dict[str, Any]) -> str:
    """One way at one batch size."""
    rate = f"{line['texts_per_second']} /s" if "texts_per_second" in line else line["left_out"][:80]
    single = f"{line['p50_milliseconds']} ms" if "p50_milliseconds" in line else ""
    return f"  {line['shape']} {line['batch']} {line['way']}: {rate} {single}"
