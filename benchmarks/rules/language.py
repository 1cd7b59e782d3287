"""The rules that make sense between recorded language models, on the tables of benchmarks/llm.py.

    python benchmarks/rules/language.py --data /folder/of/outcomes [--only gsm8k] [--seeds 20]

Estimates are fitted on a quarter of the requests, and the others are dealt anew for each seed, as
there. Costs are dollars a request. Tier 0 is the prompt, which is free and answers nothing. There
are no log-probabilities, hence no rule that reads them; scores are right or wrong, so that Hybrid
LLM's labels would be those of the logistic router.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ours
from bench import RECORD, finished, full_of, save, told
from families import cascade_routing, hindsight, priced, routed, tiers_free, tiers_shared
from judging import LEVEL
from numpy.typing import NDArray
from rules import Rule

from adaptive.policy.lookup import Lookup, single_stage
from adaptive.recorded.lines import line_of, searched
from adaptive.recorded.scorers import scorer_of
from adaptive.recorded.signals import agreements
from adaptive.types import ALWAYS, NEVER, Policy, Target

sys.path.insert(0, str(Path(__file__).parent.parent))
import llm  # beside this folder; brings torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    for case in llm.CASES:
        if not given.only or case.table in given.only:
            name = f"{case.table}: {' > '.join(case.tiers)}"
            found = llm.tables_of(case, given.data)
            cache = given.cache / f"{'-'.join((case.table, *case.tiers))}.deals.json"
            save(given.record, name, run(case, found, given.seeds, cache))


def run(case: llm.Case, found: llm.Tables, seeds: int, cache: Path) -> dict[str, Any]:
    """All rules on one case. Ours is on the layout with the best policy on the search rows."""
    size, mine = len(found.ready.outcomes), list(found.looked.values())
    table = mine[0].table
    target = Target("accuracy_drop" if table.worth.exact else "score_drop", LEVEL)
    names = ("search", "certify", "judge")
    dealt = [
        dict(zip(names, llm.dealt_rows(size, seed), strict=True)) for seed in range(1, seeds + 1)
    ]
    every = rules_of(case, found)
    tried = [ours.rule_of(f"ours {place}", each) for place, each in enumerate(mine)]

    def line(search: Lookup) -> list[Policy]:
        ladder = searched(search, target)
        front = line_of(search, ladder, target, len(dealt[0]["certify"]))
        return [each.policy for each in front]

    done = finished([*every, *tried], dealt, cache, target, line)
    done["ours"] = []
    for seed, rows in enumerate(dealt):
        ranks = [searched(each.take(rows["search"]), target)[0].rank for each in mine]
        done["ours"].append(done[f"ours {ranks.index(min(ranks))}"][seed])
    return {
        "rows": {part: len(each) for part, each in dealt[0].items()},
        "unit": "dollars",
        **told([*every, ours.rule_of("ours", mine[-1])], done, dealt),
        **full_of(mine[-1]),
    }


def rules_of(case: llm.Case, found: llm.Tables) -> list[Rule]:
    """The rules of a case, ours last."""
    layouts = list(found.looked)
    alone = found.looked[layouts[-1]]  # each model by itself, and a tier
    models = range(1, alone.table.stages[-1].tier + 1)
    ends = (models[0], models[-1])
    every = [
        Rule(
            "two models, learned scorer",
            "FrugalGPT, Chen et al. 2023",
            alone,
            tiers_free(models),
        ),
        Rule(
            "cascade routing",
            "Dekoninck et al. 2025",
            _estimated(alone),
            priced,
            cascade_routing,
        ),
    ]
    papers = {
        "logistic": "RouteLLM's form, Ong et al. 2024",
        "matrix factorisation": "RouteLLM, Ong et al. 2024",
        "knn": "Li 2025",
    }
    for name, rows in found.routers.items():
        risk = np.zeros_like(alone.table.risk)
        risk[:, models[0]] = 1.0 - rows.told
        routing = _with(alone, risk=risk)
        every.append(Rule(f"router alone, {name}", papers[name], routing, routed(ends)))
    if len(layouts) > 1:
        chain = found.looked[layouts[0]]
        every.append(
            Rule(
                "agreement of models",
                "agreement-based cascading, Kolawole et al. 2024",
                _agreement(case, found, chain),
                _agreeing,
            )
        )
    chance = np.random.default_rng(0).random(alone.table.reliability.shape)
    every += [
        *(
            Rule(f"{model} alone", "", alone, partial(_alone, stage=place))
            for place, model in enumerate(case.tiers, 1)
        ),
        Rule("random, cheapest or full", "", _with(alone, reliability=chance), tiers_shared(ends)),
        Rule("oracle", "knows every score", alone, priced, hindsight),
    ]
    return every


def _estimated(lookup: Lookup) -> Lookup:
    """The expected loss of each model after each, [n, m x m], from what is known by then.

    Before an answer it is told from the prompt, afterwards of that model from its answer too. As
    ours reads them, losses are divided by what the full model is expected to cost on the prompt.
    """
    table = lookup.table
    before = 2.0 * table.risk.astype(np.float64) - 1.0
    before[:, 0] = 10.0  # the prompt is no answer
    tiers = before.shape[1]
    after = np.repeat(before[:, None], tiers, 1)
    for tier in range(1, tiers - 1):
        after[:, tier, tier] = 1.0 - 2.0 * table.reliability[:, tier]
    return _with(lookup, risk=after.reshape(len(after), -1))


def _agreement(case: llm.Case, found: llm.Tables, chain: Lookup) -> Lookup:
    """Whether the second model of a chain answers as the first does, in place of reliability."""
    first, second, *_ = case.tiers
    told = agreements(found.ready.outcomes, second, (first,), scorer_of(case.scorer))
    reliability = np.zeros_like(chain.table.reliability)
    reliability[:, 2] = told[:, 0]
    return _with(chain, reliability=reliability)


def _with(lookup: Lookup, **changes: NDArray[np.floating]) -> Lookup:
    arrays = {name: np.asfortranarray(each, np.float32) for name, each in changes.items()}
    return replace(lookup, table=replace(lookup.table, **arrays))


def _agreeing(lookup: Lookup) -> list[Policy]:
    """Both models of the chain are asked; where they agree the second answers, else the full."""
    both = Policy((1, 2), (NEVER, NEVER, 0.5, ALWAYS))
    return [both, *(single_stage(lookup.table.stages, stage) for stage in (1, 3))]


def _alone(lookup: Lookup, stage: int) -> list[Policy]:
    return [single_stage(lookup.table.stages, stage)]


if __name__ == "__main__":
    main()
