"""From recorded outcomes to a certificate: deal, fit, search, test."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive.bundle.header import library_versions
from adaptive.certificate.certify import at_levels, certify, verdict_of, with_levels
from adaptive.certificate.looks import count_look
from adaptive.certificate.promises import Certificate, Conditions
from adaptive.certifying.recertify import expected_stop, row_seed
from adaptive.errors import DataError, TargetError
from adaptive.policy.costs import Costs
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import Found
from adaptive.policy.targets import seeks_quality, several
from adaptive.recorded.assumptions import assumed_of
from adaptive.recorded.dealing import SHARES, Deal, deal
from adaptive.recorded.estimators import Fitted
from adaptive.recorded.feasibility import check_reach
from adaptive.recorded.figures import Figures, figures_of
from adaptive.recorded.fingerprints import Fingerprint, fingerprint_of
from adaptive.recorded.judging import Judges, fit_judges
from adaptive.recorded.layouts import Layout, judged, layouts
from adaptive.recorded.lines import best_layout, line_of, searched, served_of, table_for
from adaptive.recorded.outcomes import Outcomes
from adaptive.recorded.preparing import Prepared, prepare
from adaptive.recorded.prices import PriceList, price_list, read_prices
from adaptive.recorded.reading import Source, read_outcomes
from adaptive.recorded.scorers import Scorer, scorer_of
from adaptive.recorded.texts import Encoder
from adaptive.types import OutcomeTable, Targets, confidence_fault

Given = PriceList | Mapping[str, Any] | str | Path | None


@dataclass(frozen=True, slots=True)
class Certified:
    """What came of recorded outcomes: a certificate, and all that decides."""

    certificate: Certificate
    layout: Layout
    judges: Judges
    fits: Mapping[str, Fitted]  # how the estimates do out of fold, by chain
    deal: Deal
    figures: Figures  # of the served policy on the certification rows
    fingerprints: Mapping[str, Fingerprint]
    floor: float | None  # share of requests on which two runs of the full model differ
    scorer: str
    dropped: int  # requests of which something that is needed was missing
    notes: tuple[str, ...]
    searched: Lookup  # of the rows that policies were searched on
    tested: Lookup  # of the certification rows

    @property
    def models(self) -> tuple[str, ...]:
        """The models, cheapest tier first."""
        return tuple(self.figures.costs)


def certify_outcomes(
    outcomes: Outcomes | Source | str | Path,
    target: Targets,
    *,
    tiers: Sequence[str] = (),
    unit: str | None = None,
    prices: Given = None,
    levels: Sequence[float] = (),
    scorer: str | Scorer = "exact",
    again: str | None = None,
    encoder: Encoder | None = None,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    looks: int = 1,
    count_repeats: bool = False,
) -> Certified:
    """Certify which requests cheaper models may answer, from recorded outcomes alone.

    The requests are dealt into rows that fit what decides, rows that policies are searched on, and
    rows that certify; see `adaptive.recorded.dealing`. Nothing is called and no model runs.

    Args:
        outcomes: what `read_outcomes` reads, or has read.
        target: one promise, or several that must hold together; relative ones are against the
            last of the tiers.
        tiers: models, cheapest first, the full one last; none: all, by their mean cost.
        unit: of costs, dollars or milliseconds; None: dollars where they are known.
        prices: dollars by tokens; None: costs as recorded.
        levels: further levels of the first target, each a promise of its own.
        scorer: by which answers are the same, for `agreement` and as a signal.
        again: a second recorded run of the full model, which tells how it agrees with itself.
        encoder: prompts to vectors, in place of words by TF-IDF; needed again where it decides.
        shares: of the requests for each part.
        looks: designs planned to be tested on these rows, each at delta over their number.
        count_repeats: whether requests of the same prompt are separate requests of the traffic.

    Raises:
        DataError: faults of the file, tiers or costs that are not there, too few requests.
        TargetError: a promise that no policy can keep, or that the rows cannot test.
    """
    read = outcomes if isinstance(outcomes, Outcomes) else read_outcomes(outcomes)
    targets = several(target)
    if fault := confidence_fault(targets[0].confidence):
        raise TargetError(fault)
    listed, same = _listed(prices), scorer_of(scorer)
    names = tiers or [name for name in read.models if name != again]
    ready = prepare(read.only(names), targets, tiers=tiers, unit=unit, prices=listed, scorer=same)
    dealt = deal(ready.outcomes, seed, shares, count_repeats=count_repeats)
    parts = {name: ready.taken(rows) for name, rows in dealt.rows.items()}
    for part in ("fit", "search", "certify"):
        if not len(parts[part].outcomes):
            raise DataError(f"no requests are left for the part {part!r}; give it a share")
    known = np.concatenate([dealt.rows["fit"], dealt.rows["search"]])
    notes = [*ready.notes, *check_reach(ready.outcomes.take(known), targets)]
    tried, fit = layouts(ready.outcomes.models), parts["fit"]
    judges, fits = fit_judges(
        fit.outcomes, fit.gains, judged(tried), same, fit.full_costs, seed, encoder
    )
    layout, lookup, ladder = best_layout(parts["search"], judges, tried, targets)
    costs, table = ready.costs(layout), table_for(layout, parts["certify"], judges)
    promises = [targets, *at_levels(targets, levels)]
    ladders = [ladder, *(searched(lookup, each) for each in promises[1:])]
    first, *further = [
        certify_line(lookup, found, table, costs, each, seed, looks, count_repeats=count_repeats)
        for each, found in zip(promises, ladders, strict=True)
    ]
    told = assumed_of(targets, dealt, count_repeats=count_repeats)
    certificate = with_levels(
        replace(first, assumptions=told), [replace(each, assumptions=told) for each in further]
    )
    certificate = count_look(certificate, hashes_of(parts["certify"].outcomes), table)
    return Certified(
        certificate=certificate,
        layout=layout,
        judges=judges,
        fits=fits,
        deal=dealt,
        figures=figures_of(certificate.policy, layout, table, costs),
        fingerprints=_fingerprints(ready, listed),
        floor=None if again is None else _differs(read, ready.full, again, same),
        scorer=scorer if isinstance(scorer, str) else "a function",
        dropped=ready.dropped,
        notes=tuple(notes),
        searched=lookup,
        tested=Lookup.of(table, costs.of(table)),
    )


def certify_line(
    lookup: Lookup,
    ladder: Sequence[Found],
    table: OutcomeTable,
    costs: Costs,
    targets: Targets,
    seed: int,
    looks: int = 1,
    *,
    count_repeats: bool = False,
) -> Certificate:
    """Test the front of what was searched on the certification rows' table."""
    line = line_of(lookup, ladder, targets, len(table))
    worth = lookup.table.worth
    digest = hashlib.sha256(table.worth.score.tobytes() + table.reliability.tobytes())
    conditions = Conditions(
        device="recorded",
        dtype="none",
        max_length=0,
        rows=digest.hexdigest(),
        versions=library_versions(),
        repeats=count_repeats,
    )
    found = certify(
        [each.policy for each in line],
        table,
        costs,
        targets,
        row_seed(seed),
        conditions,
        accuracy=float(worth.reference.mean(dtype=np.float64)) if worth.known else 1.0,
        expected=expected_stop(line),
        looks=looks,
    )
    if seeks_quality(several(targets)) or not found.certified:
        return found
    passed = found.front[: found.certified]
    served = served_of([each.policy for each in passed], [each.cost for each in passed])
    policies = [each.policy for each in found.front]
    verdict = verdict_of(policies, policies.index(served), found.certified)
    return replace(found, policy=served, verdict=verdict)


def hashes_of(outcomes: Outcomes) -> NDArray[np.uint64]:
    """A hash of each request, [n], by which rows that were looked at are known again."""
    texts = outcomes.prompts if "prompt" in outcomes.requests else list(outcomes.ids)
    found = np.empty(len(texts), dtype=np.uint64)
    for row, text in enumerate(texts):
        letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))
        digest = hashlib.blake2b((letters or text).encode(), digest_size=8)
        found[row] = int.from_bytes(digest.digest(), "little")
    return found


def _listed(prices: Given) -> PriceList | None:
    if prices is None or isinstance(prices, PriceList):
        return prices
    return read_prices(prices) if isinstance(prices, str | Path) else price_list(prices)


def _fingerprints(ready: Prepared, listed: PriceList | None) -> dict[str, Fingerprint]:
    return {
        model: fingerprint_of(
            ready.outcomes,
            model,
            {} if listed is None else listed.settings.get(model, {}),
            None if listed is None else listed.prices[model],
        )
        for model in ready.outcomes.models
    }


def _differs(outcomes: Outcomes, full: str, again: str, same: Callable[[str, str], float]) -> float:
    """The share of requests on which two runs of the full model differ.

    Raises:
        DataError: the answers of both runs are nowhere recorded.
    """
    both = outcomes.only([full, again])
    answers = both.words.get("answer", np.full((len(both), 2), None, object))
    found = [1.0 - same(a, b) for a, b in answers if a is not None and b is not None]
    if not found:
        raise DataError(f"no request has the answers of both {full} and {again}")
    return float(np.mean(found))
