"""Makes outcomes ready: tiers in order, complete rows, likeness, gains and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import DataError
from adaptive.policy.costs import DOLLARS, MILLISECONDS, Costs
from adaptive.policy.metrics import metric_of
from adaptive.policy.prices import MILLION, Price, Prices, Recorded
from adaptive.recorded.layouts import Layout
from adaptive.recorded.outcomes import Outcomes
from adaptive.recorded.prices import PriceList
from adaptive.types import Target

Floats = NDArray[np.float64]
Scorer = Callable[[str, str], float]
SIGNS = 4.0  # letters a token, where tokens were not counted


@dataclass(frozen=True, slots=True)
class Prepared:
    """Complete requests of the tiers, cheapest first, and what calls of each cost."""

    outcomes: Outcomes
    alike: Mapping[str, Floats] | None  # [n] of each model, where sameness is promised
    gains: Mapping[str, Floats]  # [n] of each model but the full one, see `judging.fit_judges`
    usage: Mapping[str, Mapping[str, Floats]]  # [n] by field of `Usage` and model
    prices: Mapping[str, Price] | None  # None: costs are as recorded
    unit: str
    dropped: int  # requests of which something that is needed is missing
    notes: tuple[str, ...]

    @property
    def full(self) -> str:
        """The model that all others are held to."""
        return self.outcomes.models[-1]

    @property
    def full_costs(self) -> Floats:
        """What the full model cost each request, [n]."""
        return call_costs(self.full, self.usage, self.prices)

    def costs(self, layout: Layout) -> Costs:
        """What the stages of a layout cost; the prompt's stage is free."""
        tiers = len(layout.chains) + 1
        if self.prices is None:
            return Recorded(self.unit, tiers)
        return Prices((Price(), *(self.prices[model] for model in layout.models)), tiers)

    def taken(self, rows: NDArray[np.integer]) -> Prepared:
        """The given requests."""

        def cut(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: each[rows] for name, each in values.items()}

        return Prepared(
            self.outcomes.take(rows),
            None if self.alike is None else cut(self.alike),
            cut(self.gains),
            {name: cut(each) for name, each in self.usage.items()},
            self.prices,
            self.unit,
            self.dropped,
            self.notes,
        )


def prepare(
    outcomes: Outcomes,
    targets: Sequence[Target],
    *,
    tiers: Sequence[str] = (),
    unit: str | None = None,
    prices: PriceList | None = None,
    scorer: Scorer,
) -> Prepared:
    """Outcomes made ready for the targets.

    Args:
        tiers: models, cheapest first; the last is the full one, which promises are relative to.
            None: all models, by their mean cost.
        unit: of costs; None: dollars where they are known, else milliseconds.

    Raises:
        DataError: fewer than two tiers, costs that nothing tells, answers or scores that a target
            needs and no request has.
    """
    names = tuple(tiers) or outcomes.models
    if len(names) < 2:
        raise DataError(f"found {len(names)} model; expected two or more, to route between them")
    chosen = outcomes.only(names)
    chosen_unit = _unit(chosen, unit, prices)
    usage, used, notes = _usage(chosen, chosen_unit, prices)
    whole = np.ones(len(chosen), dtype=np.bool_)
    for by_model in usage.values():
        for each in by_model.values():
            whole &= ~np.isnan(each)
    same = any(target.metric == "agreement" for target in targets)
    scored = np.asarray(~np.isnan(chosen.score).any(1), dtype=np.bool_)
    if any(metric_of(target).labelled for target in targets) or not same:
        whole &= scored
    if same:
        whole &= _answered(chosen)
    if not whole.any():
        what = "answers" if same else "scores"
        raise DataError(f"no request has {what} and costs of all of {', '.join(names)}")
    if same and not scored[whole].all():
        chosen.score[~scored] = np.nan  # a row has all its scores or none
    rows = np.flatnonzero(whole)
    chosen = chosen.take(rows)
    usage = {field: {m: each[rows] for m, each in own.items()} for field, own in usage.items()}
    if not tiers:
        mean = {model: float(call_costs(model, usage, used).mean()) for model in names}
        names = tuple(sorted(names, key=lambda model: mean[model]))
        chosen = chosen.only(names)
    alike = _alike(chosen, scorer) if same else None
    full = chosen.score[:, -1]
    gains = {}
    for place, model in enumerate(names[:-1]):
        gains[model] = alike[model] - 1.0 if alike is not None else chosen.score[:, place] - full
    return Prepared(
        chosen, alike, gains, usage, used, chosen_unit, int((~whole).sum()), tuple(notes)
    )


def _answered(outcomes: Outcomes) -> NDArray[np.bool_]:
    if "answer" not in outcomes.words:
        raise DataError("`agreement` needs the answers of all models, and none were recorded")
    return np.array([None not in row for row in outcomes.words["answer"].tolist()], dtype=np.bool_)


def _alike(outcomes: Outcomes, scorer: Scorer) -> dict[str, Floats]:
    answers = outcomes.words["answer"]
    return {
        model: np.array([scorer(a, b) for a, b in zip(own, answers[:, -1], strict=True)])
        for model, own in zip(outcomes.models, answers.T, strict=True)
    }


def _unit(outcomes: Outcomes, unit: str | None, prices: PriceList | None) -> str:
    known = {DOLLARS: prices is not None or "cost" in outcomes.numbers}
    known[MILLISECONDS] = "milliseconds" in outcomes.numbers
    if unit is not None and unit not in known:
        raise DataError(f"unit {unit}: expected {DOLLARS} or {MILLISECONDS}")
    found = unit or next((name for name, told in known.items() if told), None)
    if found is None or not known[found]:
        raise DataError(
            f"nothing tells what a call costs in {found or DOLLARS}; record `cost` or "
            "`milliseconds`, or give prices (--prices)"
        )
    return found


def _usage(
    outcomes: Outcomes, unit: str, prices: PriceList | None
) -> tuple[dict[str, dict[str, Floats]], Mapping[str, Price] | None, list[str]]:
    """What calls took, by field of `Usage` and model."""
    columns = dict(zip(outcomes.models, range(len(outcomes.models)), strict=True))
    if unit == MILLISECONDS or prices is None:
        name, field = (
            ("milliseconds", "milliseconds") if unit == MILLISECONDS else ("cost", "dollars")
        )
        values = outcomes.numbers[name]
        return {field: {model: values[:, place] for model, place in columns.items()}}, None, []
    missing = [model for model in outcomes.models if model not in prices.prices]
    if missing:
        raise DataError(f"the price list says nothing of {', '.join(missing)}")
    notes: list[str] = []
    usage: dict[str, dict[str, Floats]] = {}
    for field, letters in (
        ("tokens_in", np.array([float(len(text)) for text in outcomes.prompts])),
        ("tokens_out", None),
    ):
        usage[field] = {}
        for model, place in columns.items():
            if field in outcomes.numbers:
                usage[field][model] = outcomes.numbers[field][:, place]
            elif letters is not None:
                usage[field][model] = np.ceil(letters / SIGNS)
            elif "characters" in outcomes.numbers:
                usage[field][model] = np.ceil(outcomes.numbers["characters"][:, place] / SIGNS)
            else:
                usage[field][model] = np.zeros(len(outcomes))
        if field not in outcomes.numbers:
            from_what = "letters / 4" if letters is not None else "letters of the answer / 4"
            if letters is None and "characters" not in outcomes.numbers:
                from_what = "nothing: none were recorded, so that answers cost nothing"
            notes.append(f"{field} was not recorded; it was estimated by {from_what}.")
    return usage, {model: prices.prices[model] for model in outcomes.models}, notes


def call_costs(
    model: str, usage: Mapping[str, Mapping[str, Floats]], prices: Mapping[str, Price] | None
) -> Floats:
    """What a call of a model cost, [n]."""
    if prices is None:
        return next(iter(usage.values()))[model]
    price = prices[model]
    spent = usage["tokens_in"][model] * price.input + usage["tokens_out"][model] * price.output
    return spent / MILLION + price.call
