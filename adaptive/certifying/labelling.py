"""Certify on unlabelled texts in Python: labels are asked of a function, or given in turns.

What is asked, and why it proves as much as all labels would, is in `adaptive.certificate.asking`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.contents import Bundle
from adaptive.certifying import concluding, unlabelled
from adaptive.certifying.unlabelled import Outlook, Plan
from adaptive.errors import DataError, InputError
from adaptive.events import Listener, ignore
from adaptive.text import inputs
from adaptive.text import tokens as token_rows
from adaptive.types import Targets

if TYPE_CHECKING:
    from adaptive.pipeline import AdaptivePipeline

Texts = Sequence[Any]  # or pairs, as a pipeline takes them
BATCH = 20  # texts asked for at once


class Labelling:
    """A certificate in the making: it tells which texts to label next, and takes their labels.

    Attributes:
        plan: what is tested, fixed before a label is seen.
        labels: [n] of the plan's rows, positions in the bundle's labels; -1 where unknown.
        texts: to label next, most decisive first; none where nothing is open any more.
    """

    def __init__(
        self,
        source: Bundle | AdaptivePipeline,
        texts: Texts,
        *,
        target: Targets | None = None,
        levels: Sequence[float] = (),
        batch: int = BATCH,
        seed: int = 0,
        looks: int = 1,
        count_repeats: bool = False,
        batch_size: int = 32,
        on_event: Listener = ignore,
    ) -> None:
        """Run every stage on the texts; the arguments are those of `certify`."""
        given = list(texts)
        bundle = source if isinstance(source, Bundle) else source.bundle
        first, pairs, faults = inputs.check(given)
        if faults:
            raise InputError(faults)
        tokens = token_rows.tokenize(
            bundle.tokenizer, first, pairs, max_length=bundle.max_length, redact=bundle.redact
        )
        plan = unlabelled.plan(
            bundle,
            tokens,
            bundle.targets if target is None else target,
            levels=levels,
            seed=seed,
            looks=looks,
            count_repeats=count_repeats,
            batch_size=batch_size,
            pairs=pairs is not None,
            on_event=on_event,
        )
        self._begin(plan, given, batch)

    @classmethod
    def of(cls, plan: Plan, texts: Texts, batch: int = BATCH) -> Labelling:
        """One on a plan that is made already.

        Args:
            texts: that the plan's `rows` are places of.
        """
        made = cls.__new__(cls)
        made._begin(plan, list(texts), batch)
        return made

    def _begin(self, plan: Plan, texts: list[Any], batch: int) -> None:
        self.plan, self._given, self._batch = plan, texts, batch
        self.labels = plan.table.labels.copy()
        self._unlabelled = np.zeros(len(self.plan), dtype=np.bool_)  # no label is known
        self._choose()

    def give(self, labels: Sequence[str | None]) -> None:
        """Take the label of each of `texts`, by name, or None where it is not known.

        A row whose label is not known counts as lost, and is not asked for again.

        Raises:
            DataError: another number of labels, or one that the bundle does not know.
        """
        if not (self.labels >= 0).any():
            self.bundle()  # counts the look: from here on labels are seen
        self.labels[self._rows] = self._numbered(labels)
        self._unlabelled[self._rows] = self.labels[self._rows] < 0
        self._choose()

    def outlook(self) -> list[Outlook]:
        """What the next steps are expected to take in labels and to give in cost."""
        return unlabelled.outlook(self.plan, self._counted())

    def bundle(self) -> Bundle:
        """The bundle with the certificate that the labels so far prove, whenever it is asked."""
        return concluding.finish(self.plan, self.labels)

    def _choose(self) -> None:
        self._rows = unlabelled.next_rows(self.plan, self._counted(), self._batch)
        self.texts = [self._given[row] for row in self.plan.rows[self._rows].tolist()]

    def _counted(self) -> NDArray[np.int32]:
        """The labels, that of the full tier's answer where none is known: there it is lost."""
        return np.where(self._unlabelled, self.plan.table.reference, self.labels)

    def _numbered(self, labels: Sequence[str | None]) -> NDArray[np.int32]:
        if isinstance(labels, str) or len(labels) != len(self._rows):
            raise DataError(f"{len(self._rows)} texts were asked for, {len(labels)} labels came")
        names = self.plan.bundle.labels
        place = {name: number for number, name in enumerate(names)}
        for number, label in enumerate(labels):
            if label is not None and label not in place:
                raise DataError(
                    f"label {number + 1} of {len(labels)} is none of the bundle's {len(names)}; "
                    "give one of those, or None where it is not known"
                )
        return np.array([-1 if each is None else place[each] for each in labels], dtype=np.int32)


def certify(
    source: Bundle | AdaptivePipeline,
    texts: Texts,
    ask: Callable[[list[Any]], Sequence[str | None]],
    *,
    target: Targets | None = None,
    levels: Sequence[float] = (),
    batch: int = BATCH,
    seed: int = 0,
    looks: int = 1,
    count_repeats: bool = False,
    batch_size: int = 32,
    on_event: Listener = ignore,
) -> Bundle:
    """Certify on unlabelled texts, asking for the labels that decide, and for no others.

    Args:
        source: a bundle or an opened pipeline, which stays as it is.
        texts: or pairs, as a pipeline takes them. They must have served for nothing else, and how
            many there are must not depend on labels.
        ask: is given a list of texts and returns the label of each, by name, or None where it is
            not known: that row then counts as lost. It must not see any tier's answer.
        target: an `accuracy_drop` over all texts; None for the bundle's.
        levels: further ones, each a promise of its own.
        batch: texts that `ask` is given at once. The fewer, the fewer labels in all.
        seed: of the order among rows of equal use.
        looks: designs that are planned to be tested on these texts, each at delta over so many.
        count_repeats: whether texts that repeat are separate requests, and count each.
        batch_size: rows that layers run at once.
        on_event: is told how far the stages' answers are.

    Returns:
        The bundle with its certificate; `adaptive.bundle.store.recertify_bundle` writes it.

    Raises:
        InputError: a text is none.
        DataError: `ask` returned another number of labels, or one that the bundle does not know.
        TargetError, BundleError: as `adaptive.certifying.unlabelled.plan` does.
    """
    asking = Labelling(
        source,
        texts,
        target=target,
        levels=levels,
        batch=batch,
        seed=seed,
        looks=looks,
        count_repeats=count_repeats,
        batch_size=batch_size,
        on_event=on_event,
    )
    while asking.texts:
        asking.give(ask(asking.texts))
    return asking.bundle()
