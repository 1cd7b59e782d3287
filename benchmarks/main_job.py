"""The main job on three real data sets: what the chosen policy keeps, and what it saves.

    python benchmarks/main_job.py --data FOLDER [--only clinc150] [--work runs/benchmark]

FOLDER holds clinc150/, ag_news/ and sst2/, each with train.csv, validation.csv and test.csv
(columns text, label). Every recipe is in benchmarks/recipes. The test files are read once, for
the record: no choice depends on them. Builds resume; the record is rewritten after each set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import records
import sst2_sentences

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.config import Recipe, load_recipe
from adaptive.measure.evaluation import REPEATS, TIMED, evaluate_texts
from adaptive.training.build import build
from adaptive.training.rows import load_rows
from adaptive.types import Tokens

HERE = Path(__file__).parent
SETS = ("clinc150", "ag_news", "sst2")
FLOORS = {"clinc150": 15.0, "ag_news": 10.0, "sst2": 3.5}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--record", type=Path, default=HERE / "records" / "main_job.json")
    given = parser.parse_args()
    record = records.read(given.record)
    for name in given.only:
        data = given.data / name
        if name == "sst2":
            sst2_sentences.write(data, given.work / "sst2_sentences")
            data = given.work / "sst2_sentences"
        recipe = load_recipe(
            HERE / "recipes" / f"{name}.yaml",
            [f"data.source={data}", f"output={given.work / name / 'bundle'}"],
        )
        build(recipe, given.work / name)
        record[name] = run(recipe, given.work / name)
        records.write(given.record, record)
        print(json.dumps(record[name], indent=1))


def run(recipe: Recipe, work: Path) -> dict[str, Any]:
    """Figures of a finished build on its test rows."""
    bundle = AdaptivePipeline.from_config(recipe.output).bundle
    tokens, labels = load_rows(work / "data" / "test.safetensors")
    found = figures(bundle, tokens, labels)
    certify, known = load_rows(work / "data" / "certify.safetensors")
    steps = {
        step: json.loads((work / step / "step.json").read_text())["figures"]
        for step in ("data", "full", "tiny", "mid", "policy")
    }
    chosen = steps["policy"]
    return {
        **found,
        "floor_work_ratio": FLOORS[recipe.name],
        # rows of the training distribution that no step has used
        "held_out": figures(bundle, certify, known, timed=False),
        "router": chosen["router"],
        # what each entry rule costs at the target on the search rows, over the chosen policy
        "router_beats": {
            name.removeprefix("cost_"): cost / chosen["cost"] if cost else None
            for name, cost in chosen.items()
            if name.startswith("cost_")
        },
        "rows": steps["data"],
        "tiers_fit_accuracy": {t: steps[t]["fit_accuracy"] for t in ("tiny", "mid", "full")},
        "mid_work_share": steps["mid"]["work_share"],
        "policy": {
            "path": bundle.policy.path,
            "thresholds": [str(t) for t in bundle.policy.thresholds],
        },
        "seeds": {"recipe": recipe.seed},
    }


def figures(
    bundle: Bundle, tokens: Tokens, labels: np.ndarray, *, timed: bool = True
) -> dict[str, Any]:
    """The policy beside the full tier."""
    report = evaluate_texts(bundle, bundle.policy, tokens, labels, batch_size=BATCH)
    policy, *_, full = report["rows"]
    found = {
        "texts": len(tokens),
        "accuracy_full": full["accuracy"],
        "accuracy_policy": policy["accuracy"],
        "accuracy_ratio": report["accuracy_ratio"],
        "work_ratio": report["work_ratio"],
        "stage_shares": report["stage_shares"],
        "tiers": {row["name"]: row for row in report["rows"]},
    }
    if timed:
        found["time_ratio_cpu_b32"] = full["milliseconds"] / policy["milliseconds"]
        found["timing"] = {"texts": min(TIMED, len(tokens)), "repeats": REPEATS, "batch": BATCH}
    return found


if __name__ == "__main__":
    main()
