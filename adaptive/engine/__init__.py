"""Runs cascades: rows join at any time, share batches, and leave where an exit is sure enough.

engine.py       `Engine`: submit, step, cancel; `answer` and `answer_by`, the same for one caller
rows.py         the slot table, and batches between two hops
scheduler.py    what waits before each hop, and which batch runs next
plan.py         from a policy to its hops
hops.py         layers and exits from one decision to the next, on a GPU in one launch
exits.py        pool, head, measures, reliability, and the comparison with the threshold
batching.py     limits of a batch, and rows that wait in order of length
finished.py     rows that are done, and their answers on the host
"""

from adaptive.engine.engine import Engine, answer, answer_by
from adaptive.engine.finished import Finished, collect

__all__ = ["Engine", "Finished", "answer", "answer_by", "collect"]
