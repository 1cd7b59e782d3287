"""The tables of docs/results.md, from the record: python benchmarks/rules/show.py [RECORD]"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent.parent / "records" / "rules.json"
ORACLES = ("oracle", "oracle of exits")


def main() -> None:
    record = json.loads(Path(*sys.argv[1:2] or [RECORD]).read_text(encoding="utf-8"))
    for name, found in record.items():
        if not isinstance(found, dict) or "rules" not in found:
            continue
        print(f"{lines(name, found)}\n")
        print(f"{verdict(found)}\n")
        if "ablation" in found:
            print(f"{ablation(found['ablation'])}\n")
        if "router_trial" in found:
            print(f"{trial(found['router_trial'])}\n")


def lines(name: str, found: dict[str, Any]) -> str:
    """A line a rule, best area first. Dollars are of a thousand requests."""
    full, scale = found["full"], 1e3 if found["unit"] == "dollars" else 1.0
    unit = "ms" if scale == 1.0 else "$ a thousand"
    rows = sorted(found["rules"].items(), key=lambda each: -each[1]["area"]["mean"])
    told = [
        f"{name}: full tier {full['accuracy']:.1%}, {scale * full['cost']:.3g} {unit}; "
        f"{found['seeds']} deals",
        "",
        f"| rule | area | {unit} for 99 % (kept) | 99.5 % (kept) | within a fifth | certified |",
        "|---|---|---|---|---|---|",
    ]
    for rule, each in rows:
        shown = [
            f"**{rule}**" if rule == "ours" else rule,
            f"{each['area']['mean']:.4f} ± {_half(each['area']):.4f}",
            *(
                f"{_cost(each[f'cost_at_{at}'], scale)} ({each[f'kept_at_{at}']['mean']:.2%})"
                for at in ("99", "995")
            ),
            f"{each['accuracy_at_fifth']['mean']:.2%}",
            _cost(each["certified_cost"], scale),
        ]
        told.append(f"| {' | '.join(shown)} |")
    return "\n".join(told)


def verdict(found: dict[str, Any]) -> str:
    """Which rules are better than ours, or worse, at each figure, where p is below 0.05."""
    told, dollars = [], found["unit"] == "dollars"
    for key, sign in (
        ("area", 1),
        ("cost_at_99", -1),
        ("cost_at_995", -1),
        ("accuracy_at_fifth", 1),
        ("certified_cost", -1),
    ):
        others = {n: r for n, r in found["rules"].items() if n not in ORACLES and n[:4] != "ours"}
        sure = {n: r["against_ours"][key] for n, r in others.items()}
        better = [n for n, r in sure.items() if r["p"] < 0.05 and sign * r["mean"] > 0]
        worse = [n for n, r in sure.items() if r["p"] < 0.05 and sign * r["mean"] < 0]
        best = max(sure, key=lambda n: sign * sure[n]["mean"])
        more = sure[best]["mean"] * (1e3 if dollars and "cost" in key else 1.0)
        told.append(
            f"- {key}: {len(worse)} of {len(others)} worse than ours, better: "
            f"{', '.join(better) or 'none'}; the best other is {best} "
            f"({more:+.4g}, p {sure[best]['p']:.2g})"
        )
    return "\n".join(told)


def ablation(found: dict[str, Any]) -> str:
    """What leaving a part out costs."""
    told = ["| ours | ms certified | more | ms for 99 % | more |", "|---|---|---|---|---|"]
    for name, each in found.items():
        cells = [name]
        for key in ("certified_cost", "cost_at_99"):
            cells.append(f"{each[key]['milliseconds']['mean']:.3f}")
            cells.append(f"{each[key]['more']['mean']:+.3f} ± {_half(each[key]['more']):.3f}")
        told.append(f"| {' | '.join(cells)} |")
    return "\n".join(told)


def trial(found: dict[str, Any]) -> str:
    """What routers save, by the factor on the full tier's costs: certified, and for 99 %."""
    told = [f"| router | {' | '.join(f'x {factor}' for factor in found)} |"]
    told.append("|---|" + "---|" * len(found))
    for router in next(iter(found.values())):
        cells = [router]
        for by in found.values():
            parts = []
            for key in ("certified_cost", "cost_at_99"):
                one = by[router][key]["milliseconds" if router == "none" else "more"]
                sign = "" if router == "none" else "+"
                parts.append(f"{one['mean']:{sign}.3f} ± {_half(one):.3f}")
            cells.append("; ".join(parts))
        told.append(f"| {' | '.join(cells)} |")
    return "\n".join(told)


def _cost(told: dict[str, float], scale: float) -> str:
    return f"{scale * told['mean']:.3g} ± {scale * _half(told):.2g}"


def _half(told: dict[str, float]) -> float:
    return (told["high"] - told["low"]) / 2


if __name__ == "__main__":
    main()
