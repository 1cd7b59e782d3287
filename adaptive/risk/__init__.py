"""Finite-sample tests of a mean loss: p-values, families of tests, power.

Plain functions on numpy arrays that know nothing of models or cascades. A *loss* is one number a
row, in [low, high]; the hypothesis to refute is always H0: mean loss > level. A p-value is valid
when P(p <= delta) <= delta under H0 for every delta, for any number of rows and any distribution
of exchangeable, independent rows; no limit theorem is used.

    p_values   exact binomial for losses of 0 and 1, Hoeffding-Bentkus for bounded ones, clipping
    betting    Waudby-Smith and Ramdas' test, far sharper where losses vary little
    paired     exact for a drop in accuracy, where losses are counts of four kinds; its power
    families   fixed-sequence testing, Bonferroni, several risks or groups at once
    power      the chance of success with so many rows, and the rows needed for a chance
"""

from adaptive.risk.betting import betting, row_order
from adaptive.risk.families import bonferroni, by_group, fixed_sequence, worst
from adaptive.risk.p_values import binomial, clipped, hoeffding_bentkus
from adaptive.risk.paired import drop_counts, lower, paired, paired_margin, upper
from adaptive.risk.paired_power import paired_power, rows_for_paired
from adaptive.risk.power import (
    betting_power,
    binomial_power,
    rows_for_betting,
    rows_for_binomial,
    simulated_power,
)

__all__ = [
    "betting",
    "betting_power",
    "binomial",
    "binomial_power",
    "bonferroni",
    "by_group",
    "clipped",
    "drop_counts",
    "fixed_sequence",
    "hoeffding_bentkus",
    "lower",
    "paired",
    "paired_margin",
    "paired_power",
    "row_order",
    "rows_for_betting",
    "rows_for_binomial",
    "rows_for_paired",
    "simulated_power",
    "upper",
    "worst",
]
