"""What is gained by tokenising the next texts while these are computed, beside an idle core.

Finished bundles answer streams of real text on one thread, with a thread that tokenises ahead and
without, in turns; wall-clock time, since the second thread's is to be hidden.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from unittest import mock

from runtime_peers import Times, one_pool, some_texts, speed

from adaptive import AdaptivePipeline, pipeline
from adaptive.pipeline import AHEAD

PIECES = 8  # of a stream at least


def ahead(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each data set and batch size: speed with the thread over speed without."""
    lines = []
    with one_pool(given.threads):
        for name in given.sets:
            pipe = AdaptivePipeline.from_config(given.bundles / name / "bundle")
            texts = some_texts(given.data / name / "test.csv", given.texts, given.seed)
            for batch in given.batches:
                stream = texts * -(-PIECES * AHEAD * batch // len(texts))
                spent = {beside: Times([], []) for beside in (False, True)}
                for repeat in range(given.repeats + 1):
                    for beside, times in spent.items():
                        took = clocked(pipe, stream, batch, beside)
                        if repeat:  # the first round warms up
                            times.whole.append(took)
                value = speed(spent[True], spent[False])
                lines.append({"data": name, "batch": batch, "texts": len(stream), "value": value})
    return lines


def clocked(pipe: AdaptivePipeline, texts: list[str], batch: int, beside: bool) -> float:
    """Seconds for a stream, tokenised in a thread beside or not."""
    with mock.patch.object(pipeline, "has_spare_core", lambda device: beside):
        begun = time.perf_counter()
        for _ in pipe(iter(texts), batch_size=batch):
            pass
        return time.perf_counter() - begun
