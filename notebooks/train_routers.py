# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train and compare routers offline
#
# A router looks at a text before any transformer runs, and estimates for each tier how likely its
# answer is worse than the full tier's. Whether it is worth anything is a question about recorded
# outcomes: no cascade has to run for it again and again.
#
# `ADAPTIVE_BUNDLE` names the bundle, and `ADAPTIVE_DATA` labelled rows that it was not trained
# on; without them, the demo's bundle and the test rows of its own recipe.
#
# The outputs shown here are of a made-up bundle: random weights, words without a meaning.

# %%
import os
from dataclasses import replace

import numpy as np
import torch

from adaptive import AdaptivePipeline, load_data
from adaptive.cli.labelled import load_labelled
from adaptive.measure.recording import record, routing_features, tabulate
from adaptive.policy.entries import forced, forced_entries
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import Judge
from adaptive.policy.worth import worse_of
from adaptive.routers.train import train_router

folder = os.environ.get("ADAPTIVE_BUNDLE", "../bundles/rotten_tomatoes")
pipeline = AdaptivePipeline.from_config(folder, uncertified=True)
bundle = pipeline.bundle
file = os.environ.get("ADAPTIVE_DATA")
data = load_labelled(None, folder, bundle.labels) if file is None else load_data(file)
data = data.with_labels(bundle.labels, {}).take(np.arange(min(len(data), 2000)))
pipeline

# %% [markdown]
# ## Record once
#
# Every stage runs on every row, this once. `worse` is what a router learns: whether a tier's last
# answer is worse than the full tier's. `features` is what it sees, all of it known before the
# first layer runs: the mean of the tiny tier's embeddings, how sure its first exit is, the text's
# length.

# %%
tokens = pipeline.tokenize(data.texts, data.pairs)
seen = record(bundle.tiers, tokens, 32)
parts = (bundle.reliability, data.labels, None, bundle.log_frequency)
table = tabulate(seen, *parts)
features = routing_features(seen, bundle.reliability, bundle.log_frequency).numpy()
worse = worse_of(table)
for tier, share in zip(bundle.tiers, worse.mean(0), strict=True):
    print(f"{tier.name:>6}: worse than the full tier on {share:.1%} of {len(table):,} rows")

# %% [markdown]
# ## Four kinds, and the baseline that takes long texts for hard ones
#
# Half of the rows train, the others judge. An AUC of 0.5 is guessing: the chance that a row that
# a tier does worse on has the higher risk. `trees` need scikit-learn's boosting; the rest is a
# matrix or two.

# %%
trained = {}
for kind in ("logistic", "mlp", "knn"):
    trained[kind] = train_router(features, worse, kind, lengths=table.tokens, held_out=0.5)
    for tier, found in zip(bundle.tiers[:-1], trained[kind].report["tiers"], strict=False):
        if found["auc"] is not None:
            length = found["auc_by_length"]
            print(f"{kind:>9}, {tier.name}: AUC {found['auc']:.3f}, by length {length:.3f}")

# %% [markdown]
# ## What is it worth in cost?
#
# A good AUC need not save anything: exits already tell easy texts from hard ones, for little. So
# the policy is compared with itself, entered in other ways, its thresholds as they are. The
# oracle knows each answer: nothing can enter better.

# %%
held = trained["logistic"].held_out
rows = table.take(held)
lookup = Lookup.of(rows, pipeline.costs.at(rows.tokens))


def show(name: str, lookup: Lookup, policy) -> None:
    did = lookup.evaluate(policy)
    print(f"{name:>12}: accuracy {did.score.mean():.3f} at {did.cost.mean():.3f} {lookup.unit}")


show("as served", lookup, replace(pipeline.policy, risk_weight=None))
for name, entry in forced_entries(lookup, pipeline.policy).items():
    show(name, *forced(lookup, pipeline.policy, entry))

# %% [markdown]
# With a trained router the entry is the tier of least cost + weight x risk, and the weight is
# searched. What is found here is picked on the rows that it is judged on: a build searches on
# rows of their own, and packs a router only if it saves 2 % there.

# %%
for kind, each in trained.items():
    with torch.inference_mode():
        risk = each.router.risk(torch.from_numpy(features[held])).numpy()
    routed = replace(lookup, table=replace(rows, risk=risk))
    found = list(
        Judge(routed, bundle.targets, 0.0).routed(
            [Judge(lookup, bundle.targets, 0.0)(pipeline.policy)]
        )
    )
    for best in found:
        show(kind, routed, best.policy)
    if not found:
        print(f"{kind:>12}: no weight keeps the target with these thresholds")
