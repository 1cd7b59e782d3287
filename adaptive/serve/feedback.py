"""Labels that users send: kept apart in a file of its owner, and tested against the promise.

What is kept is untrusted: nothing that serves reads it. `adaptive refit` does, when an operator
says so, and no promise rests on it before it is certified on labels kept apart.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive.policy.lookup import abstains
from adaptive.serve.audit import answers_of
from adaptive.serve.jobs import ANSWERED
from adaptive.serve.keys import Caller
from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Feedback

if TYPE_CHECKING:
    from adaptive.serve.service import Ask, Service

FILE = "feedback.jsonl"
_FULL = "no more feedback is kept: the operator's limit, or the disk, is reached"


class Quarantine:
    """A file of JSON lines that only the server's user may read."""

    def __init__(self, settings: Feedback) -> None:
        self._settings, self._lock = settings, threading.Lock()

    @property
    def file(self) -> Path | None:
        """Where; None where nothing is kept."""
        folder = self._settings.folder
        return None if folder is None else Path(folder) / FILE

    def keep(self, rows: Sequence[dict[str, Any]], key: str) -> int:
        """Write rows, all or none, and return how many. Blocks.

        Args:
            key: the name of the key that sent them.

        Raises:
            Refusal: there is no more room.
        """
        file = self.file
        if file is None or not rows:
            return 0
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = b"".join(
            json.dumps({**row, "key": key, "time": now}, ensure_ascii=False).encode() + b"\n"
            for row in rows
        )
        with self._lock:
            try:
                self._append(file, lines)
            except OSError:  # a disk that is full, or a folder that may not be written to
                raise Refusal(507, _FULL) from None
        return len(rows)

    def _append(self, file: Path, lines: bytes) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        number = os.open(file, flags, 0o600)
        try:
            before = os.fstat(number).st_size
            if before + len(lines) > self._settings.bytes:
                raise Refusal(507, _FULL)
            try:
                written = 0
                while written < len(lines):
                    written += os.write(number, lines[written:])
            except OSError:
                os.truncate(number, before)  # half a line would spoil the file
                raise
        finally:
            os.close(number)


async def learn(service: Service, ask: Ask, labels: Sequence[Any], caller: Caller) -> int:
    """Test a level's promise on labelled texts; returns how many of them could be tested.

    The level's policy and the full tier answer them, when nothing else is to do.

    Args:
        labels: cells without fault, of the texts that are asked about.

    Raises:
        Refusal: it cannot be, or not now.
    """
    with service.deployed() as deployment:
        level, bundle = deployment.level(ask.target), deployment.bundle
        prepared = await service.prepared(deployment, ask, "truncate")
        jobs = [
            service.job(deployment, policy, prepared, patient=True)
            for policy in (level.policy, deployment.full)
        ]
        cost = float(sum(job.cost.sum() for job in jobs))
        caller.spend_cost(cost)
        async with service.load.rows(cost):
            for job in jobs:
                await service.run(deployment, job)
        good = ~np.isin(np.arange(len(prepared)), list(prepared.faults))
        for job in jobs:
            good &= (job.state == ANSWERED) & ~job.degraded
        rows = np.flatnonzero(good)
        index = {name: number for number, name in enumerate(bundle.labels)}
        truth = bundle.task.cells.labels(labels, index)[rows]
        served, full = (
            1.0
            - bundle.task.losses(answers_of(bundle, job.answers, rows), truth).astype(np.float64)
            for job in jobs
        )
        own = jobs[0].answers
        left = abstains(level.policy, bundle.stages, own.stage, own.reliability)[rows]
        if deployment is service.deployment and len(rows):
            service.audit.learn(level, served, full, ~left)
        return len(rows)
