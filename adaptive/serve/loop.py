"""The thread that owns the engines: jobs come by a queue, and go when their rows are answered.

One engine runs one policy, so there is one for each level that is asked for, over the same bundle
and on the same device. All of them belong to this thread.

Where a batch fails, its rows are tried again on an engine of their own, in halves, until the row at
fault is alone: it fails, and no other. Before that, golden inputs tell whether it is a tier that is
at fault: that is fenced off, and all rows begin anew under what is left of their policies.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.engine import Engine, Finished
from adaptive.errors import BatchError
from adaptive.policy.lookup import tier_alone, without_tiers
from adaptive.serve.jobs import ANSWERED, FAILED, LATE, TOO_LATE, Job, Row, by_job, select_rows
from adaptive.serve.probes import attempt, broken_tiers, finite
from adaptive.text import tokens as token_rows
from adaptive.types import Answers, Policy, Tokens

log = logging.getLogger("adaptive.serve")
SMOOTH = 0.2  # weight of the latest step in the mean of their times
PROBE_EVERY_S = 1.0
PATIENT_ROWS = 4  # of a batch that others may have to wait for


class Lane:
    """One engine, and whose rows are in its slots."""

    def __init__(self, engine: Engine, *, patient: bool) -> None:
        self.engine, self.patient = engine, patient
        self.owners: dict[int, Row] = {}

    def slots(self, job: Job) -> list[int]:
        """Those of a job's rows."""
        return [slot for slot, (owner, _) in self.owners.items() if owner is job]


class Loop:
    """Answers jobs until it is told to stop, and then those that it has.

    Attributes:
        fenced: tiers that do not run any more, and why; only the loop's thread writes.
        began: when the step began that runs now, on the clock; None between two.
    """

    def __init__(
        self,
        bundle: Bundle,
        batch_size: int,
        rows: Tokens,
        deliver: Callable[[list[Job]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A loop that does not run yet.

        Args:
            rows: golden ones, see `adaptive.serve.probes`.
            deliver: is given jobs that are done, in the loop's thread.
        """
        self.bundle, self.batch_size, self.clock = bundle, batch_size, clock
        self.fenced: dict[int, str] = {}
        self.began: float | None = None
        self.step_s = 0.0  # the mean time of a step, which a deadline must leave room for
        self._rows, self._deliver = rows, deliver
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lanes: dict[tuple[Policy, bool], Lane] = {}
        self._timed: list[Job] = []
        self._done: list[Job] = []
        self._probe_at = -np.inf
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Jobs join; from any thread."""
        self._inbox.put(lambda: self._take(jobs))

    def cancel(self, job: Job) -> None:
        """A job's client has gone; from any thread."""
        self._inbox.put(lambda: self._cancel(job))

    def stop(self) -> None:
        """End once all jobs are done; from any thread."""

        def end() -> None:
            self._stopping = True

        self._inbox.put(end)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def decides(self, policy: Policy) -> Policy | None:
        """What is left of a policy without the tiers that are fenced off."""
        return without_tiers(policy, self.bundle.stages, self.fenced)

    def _run(self) -> None:
        while True:
            self._read(wait=not self._busy)
            self._expire()
            lane = self._choose()
            if lane is not None:
                self._step(lane)
            self._hand_over()
            if self._stopping and not self._busy and self._inbox.empty():
                return

    @property
    def _busy(self) -> bool:
        return any(not lane.engine.idle for lane in self._lanes.values())

    def _read(self, *, wait: bool) -> None:
        if wait and not self._stopping:
            self._inbox.get()()
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return

    def _take(self, jobs: Sequence[Job]) -> None:
        here = [job for job in jobs if not job.cancelled]
        for job in here:
            if job.deadline < np.inf:
                self._timed.append(job)
                job.allowed = job.deadline - self.clock()
            if not len(job.tokens):
                self._settle(job, (), FAILED)
        self._submit([(job, row) for job in here for row in range(len(job.tokens))])

    def _submit(self, rows: Sequence[Row]) -> None:
        """Rows join the engines of what is left of their policies, for the first time or anew."""
        groups: dict[tuple[Policy, bool], dict[Job, list[int]]] = {}
        for job, row in rows:
            groups.setdefault((job.policy, job.patient), {}).setdefault(job, []).append(row)
        for (wanted, patient), jobs in groups.items():
            policy = self.decides(wanted)
            if policy is None:
                self._fail(jobs)
            else:
                self._enter(self._lane(policy, patient), jobs)

    def _enter(self, lane: Lane, jobs: Mapping[Job, Sequence[int]]) -> None:
        """These rows of jobs join an engine, all at once."""
        parts = [
            job.tokens if len(rows) == len(job.tokens) else select_rows(job.tokens, rows)
            for job, rows in jobs.items()
        ]
        owners = [(job, row) for job, rows in jobs.items() for row in rows]
        due: float | NDArray[np.float64] = np.inf
        if any(job.deadline < np.inf for job in jobs):
            due = np.array([job.deadline - job.cost[row] / 1000.0 for job, row in owners])
        try:
            tokens = parts[0] if len(parts) == 1 else token_rows.concatenate(parts)
            slots = lane.engine.submit(tokens, due)
        except Exception as error:  # memory, or what a router reads of tokens
            if len(jobs) > 1:  # one of them may be at fault
                for job, rows in jobs.items():
                    self._enter(lane, {job: rows})
                return
            log.error("rows could not join the engine: %s", type(error).__name__)
            self._fail(jobs)
            return
        lane.owners.update(zip(slots.tolist(), owners, strict=True))

    def _fail(self, jobs: Mapping[Job, Sequence[int]]) -> None:
        for job, rows in jobs.items():
            self._settle(job, rows, FAILED)

    def _lane(self, policy: Policy, patient: bool) -> Lane:
        key = (policy, patient)
        if key not in self._lanes:
            rows = min(self.batch_size, PATIENT_ROWS) if patient else self.batch_size
            engine = Engine(self.bundle, policy, rows, keep=True, clock=self.clock)
            self._lanes[key] = Lane(engine, patient=patient)
        return self._lanes[key]

    def _choose(self) -> Lane | None:
        """The engine whose turn it is; patient ones where the others have nothing to do."""
        busy = [key for key, lane in self._lanes.items() if not lane.engine.idle]
        key = min(busy, key=lambda each: each[1], default=None)
        if key is None:
            return None
        self._lanes[key] = lane = self._lanes.pop(key)  # behind the others
        return lane

    def _step(self, lane: Lane) -> None:
        self.began = began = self.clock()
        try:
            self._finished(lane, lane.engine.step(), ANSWERED)
        except BatchError as error:
            rows = [lane.owners.pop(slot) for slot in error.slots]
            self._failed(lane, rows, type(error.cause).__name__)
        except Exception as error:  # the engine itself is broken: its rows begin anew, alone
            del self._lanes[lane.engine.policy, lane.patient]
            self._failed(lane, list(lane.owners.values()), type(error).__name__)
        finally:
            self.began = None
            self.step_s += SMOOTH * (self.clock() - began - self.step_s)

    def _finished(self, lane: Lane, found: Finished, state: int) -> None:
        """Rows that left an engine with an answer."""
        if not len(found):
            return
        answers, rows = found.answers(), [lane.owners.pop(slot) for slot in found.slots.tolist()]
        good = finite(answers, reliable=not (lane.engine.plan.bare or state == LATE))
        self._write(rows, answers, good, state, lane.engine.policy)
        if not good.all():
            self._failed(lane, [rows[at] for at in np.flatnonzero(~good)], "no finite numbers")

    def _write(
        self,
        rows: Sequence[Row],
        answers: Answers,
        good: NDArray[np.bool_],
        state: int,
        policy: Policy,
    ) -> None:
        """Answers of rows [b] that a policy gave, where they are good."""
        for job, places in by_job(rows).items():
            of = [(row, at) for row, at in places if good[at]]
            if of:
                job.write([row for row, _ in of], answers, [at for _, at in of])
                what = LATE if self.clock() > job.deadline else state
                degraded = policy != job.policy
                self._settle(job, [row for row, _ in of], what, degraded=degraded)

    def _failed(self, lane: Lane, rows: list[Row], why: str) -> None:
        """Rows of a batch that raised or gave no numbers: is it a tier, or one of them?"""
        log.error("a batch of %d rows failed: %s", len(rows), why)
        bad: dict[int, str] = {}
        if self.clock() >= self._probe_at:  # rows at fault must not make it probe all the time
            bad = broken_tiers(self.bundle, self._rows, self.fenced)
            self._probe_at = self.clock() + PROBE_EVERY_S
        if bad:
            self._fence(bad)
            self._submit(rows)
        else:
            self._halve(rows, lane.engine.policy)

    def _halve(self, rows: list[Row], policy: Policy) -> None:
        """Try rows by themselves, in halves where they fail again."""
        answers, good = self._alone(rows, policy)
        if len(rows) == 1 and not good.all():  # the last tier that is left knows it best
            left = [tier for tier in range(len(self.bundle.tiers)) if tier not in self.fenced]
            policy = tier_alone(self.bundle.stages, left[-1])
            answers, good = self._alone(rows, policy)
        if answers is not None and good.all():
            self._write(rows, answers, good, ANSWERED, policy)
        elif len(rows) == 1:
            self._settle(rows[0][0], [rows[0][1]], FAILED)
        else:
            half = len(rows) // 2
            self._halve(rows[:half], policy)
            self._halve(rows[half:], policy)

    def _alone(
        self, rows: Sequence[Row], policy: Policy
    ) -> tuple[Answers | None, NDArray[np.bool_]]:
        """Answers of rows on an engine of their own, and which are numbers."""
        tokens = token_rows.concatenate([select_rows(job.tokens, [row]) for job, row in rows])
        return attempt(self.bundle, tokens, policy, self.batch_size)

    def _fence(self, bad: dict[int, str]) -> None:
        """These tiers do not run any more; rows that could come to one begin anew."""
        for tier, why in bad.items():
            log.error("tier %s is fenced off: %s", self.bundle.tiers[tier].name, why)
        self.fenced = {**self.fenced, **bad}
        for key, lane in list(self._lanes.items()):
            if self.decides(lane.engine.policy) != lane.engine.policy:
                del self._lanes[key]
                self._submit(list(lane.owners.values()))

    def _expire(self) -> None:
        """Rows whose time is up, or will be before another step ends, leave as they are."""
        if not self._timed:
            return
        now = self.clock()
        # no more than a quarter of the time is kept for that step, however long the last ones took
        due = [
            job
            for job in self._timed
            if job.left and job.deadline - min(self.step_s, job.allowed / 4.0) <= now
        ]
        self._timed = [job for job in self._timed if job.left and job not in due]
        for job in due:
            for lane in list(self._lanes.values()):
                slots = lane.slots(job)
                for part in lane.engine.give_up(np.array(slots, np.int64)) if slots else ():
                    self._finished(lane, part, LATE)
                late = [lane.owners.pop(slot)[1] for slot in slots if slot in lane.owners]
                self._settle(job, late, TOO_LATE)

    def _cancel(self, job: Job) -> None:
        job.cancelled = True
        for lane in self._lanes.values():
            slots = lane.slots(job)
            if slots:
                lane.engine.cancel(np.array(slots, np.int64))
            for slot in slots:
                del lane.owners[slot]

    def _settle(self, job: Job, rows: Sequence[int], state: int, *, degraded: bool = False) -> None:
        job.settle(rows, state, degraded=degraded)
        if not (job.left or job.cancelled or job.delivered):
            job.delivered = True
            self._done.append(job)

    def _hand_over(self) -> None:
        if self._done:
            done, self._done = self._done, []
            self._deliver(done)
