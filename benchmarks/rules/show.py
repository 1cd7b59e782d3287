"""The tables of docs/results.md, from the record: python benchmarks/rules/show.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent.parent / "records" / "rules.json"


def main() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for name in ("clinc150", "ag_news", "sst2"):
        if name in record:
            print(f"{lines(name, record[name])}\n\n{ablation(record[name]['ablation'])}\n")


def lines(name: str, found: dict[str, Any]) -> str:
    """A line a rule, best area first."""
    full = found["full"]
    rows = sorted(found["rules"].items(), key=lambda each: -each[1]["area"]["mean"])
    told = [
        f"{name}: full tier {full['accuracy']:.1%}, {full['cost']:.3g} ms; {found['seeds']} deals",
        "",
        "| rule | area | ms for 99 % (kept) | ms for 99.5 % | within a fifth | ms certified |",
        "|---|---|---|---|---|---|",
    ]
    for rule, each in rows:
        shown = [
            f"**{rule}**" if rule == "ours" else rule,
            f"{each['area']['mean']:.4f} ± {_half(each['area']):.4f}",
            f"{each['cost_at_99']['mean']:.3f} ± {_half(each['cost_at_99']):.3f} "
            f"({each['kept_at_99']['mean']:.2%})",
            f"{each['cost_at_995']['mean']:.3f} ± {_half(each['cost_at_995']):.3f}",
            f"{each['accuracy_at_fifth']['mean']:.2%}",
            f"{each['certified_cost']['mean']:.3f} ± {_half(each['certified_cost']):.3f}",
        ]
        told.append(f"| {' | '.join(shown)} |")
    return "\n".join(told)


def ablation(found: dict[str, Any]) -> str:
    """What leaving a part out costs."""
    told = ["| ours | ms certified | more | ms for 99 % | more |", "|---|---|---|---|---|"]
    for name, each in found.items():
        cells = [name]
        for key in ("certified_cost", "cost_at_99"):
            cells.append(f"{each[key]['milliseconds']['mean']:.3f}")
            more = each[key]["more"]
            cells.append(f"{more['mean']:+.3f} ± {_half(more):.3f}")
        told.append(f"| {' | '.join(cells)} |")
    return "\n".join(told)


def _half(told: dict[str, float]) -> float:
    return (told["high"] - told["low"]) / 2


if __name__ == "__main__":
    main()
