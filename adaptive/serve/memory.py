"""What the garbage collector of a server's process need not look at."""

from __future__ import annotations

import gc


def freeze() -> None:
    """Have the collector pass over all that there is now: the model and its libraries.

    They stay, and walking through them takes a good part of a request's time. For a process that
    does nothing but serve.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
