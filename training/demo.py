"""`python -m adaptive.training.demo BUNDLE`: a finished bundle answers a few texts."""

from __future__ import annotations

import sys
from pathlib import Path

import adaptive
from adaptive.measure.curves import curve, plot
from adaptive.pipeline import AdaptivePipeline

TEXTS = (
    "a gorgeous , witty and seductive movie .",
    "dull , lifeless , and amateurishly assembled .",
    "it is not that the story is bad , but that nobody seems to believe in it .",
    "the kind of film that should not work , and somehow does .",
    "neither as funny as it hopes nor as clever as it thinks , yet strangely hard to dislike .",
)


def main(folder: str) -> None:
    """Answer `TEXTS`, explain the hardest of them, write curve and report beside the bundle."""
    pipeline = AdaptivePipeline.from_config(folder)
    answers = pipeline(list(TEXTS))
    for text, answer in zip(TEXTS, answers, strict=True):
        where = answer["routing"]
        print(
            f"{answer['label']:>9} {answer['score']:.2f}  {where['tier']}@{where['depth']}"
            f"  {where['cost']:.3f} {where['unit']}  {text}"
        )
    dearest = max(range(len(TEXTS)), key=lambda i: answers[i]["routing"]["cost"])
    print(f"\n{TEXTS[dearest]}\n{pipeline.explain(TEXTS[dearest])}")
    picture = Path(folder).with_suffix(".curve.png")
    tables = pipeline.bundle.outcomes
    table = tables["certify" if "certify" in tables else "search"]
    plot(curve(pipeline.bundle, pipeline.policy, table, pipeline.costs), picture)
    print(f"\nThe speed/accuracy curve on {len(table)} held-out texts: {picture}")
    page = Path(folder).with_suffix(".report.html")
    adaptive.report(pipeline, output=page)
    print(f"All of it on one page: {page}")


if __name__ == "__main__":
    main(sys.argv[1])
