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
# # The speed/accuracy curve of a bundle
#
# A bundle keeps its *outcome tables*: what every stage would have answered for held-out texts.
# Any policy is a look-up in them, so everything below but the last section runs no model.
#
# `ADAPTIVE_BUNDLE` names the bundle; `make demo` builds the one that is opened without it.
#
# The outputs shown here are of a made-up bundle: random weights, words without a meaning.

# %%
# %matplotlib inline
import os
from itertools import pairwise

import numpy as np
from matplotlib import pyplot as plt

from adaptive import AdaptivePipeline
from adaptive.config.targets import show_target
from adaptive.measure.curves import curve, plot
from adaptive.measure.evaluation import report, stage_name
from adaptive.measure.work import work_of
from adaptive.policy.lookup import Lookup
from adaptive.policy.search import shared_thresholds
from adaptive.policy.worth import as_good

pipeline = AdaptivePipeline.from_config(
    os.environ.get("ADAPTIVE_BUNDLE", "../bundles/rotten_tomatoes")
)
bundle, policy = pipeline.bundle, pipeline.policy
names = [stage_name(bundle, k) for k in range(len(bundle.stages))]

# %% [markdown]
# ## Which rows
#
# The policy was chosen on the `search` rows, and looks better there than it is. The `certify`
# rows had no part in that choice, so figures come from them where the bundle has them.

# %%
split = "certify" if "certify" in bundle.outcomes else "search"
table = bundle.outcomes[split]
print(f"{bundle.name}: {len(table)} {split} rows, {len(bundle.labels)} labels")
for target in bundle.targets:
    print(f"promise: {show_target(target)}")
print(f"stages: {', '.join(names)}")

# %% [markdown]
# ## Accuracy against cost
#
# First in counted work, layers of the full tier times tokens. Each square is a tier alone, each
# grey dot an exit alone; the line gives every exit one shared threshold and moves it.
# Where rows have no labels, agreement with the full tier stands in for accuracy.

# %%
work = work_of(bundle.tiers, bundle.router)
counted = curve(bundle, policy, table, work)
plot(counted)

# %% [markdown]
# Then in milliseconds, as measured on the machine that built the bundle. Where this curve is
# flatter than the one above, launching a layer costs more than its arithmetic.

# %%
if bundle.costs is not None:
    print(bundle.costs.measured)
plot(curve(bundle, policy, table, bundle.costs or work))

# %% [markdown]
# How much of the full tier's quality is to be kept? The slider rings the cheapest policy that keeps
# it on these rows. Without ipywidgets it is the picture alone.

# %%
counted.slider(0.95)

# %% [markdown]
# The chosen policy beside each tier alone:

# %%
found = report(bundle, policy, table)
print(f"{'':>16} {'accuracy':>9} {'agreement':>9} {'work':>8}")
for row in found["rows"]:
    accuracy = "unknown" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
    print(f"{row['name']:>16} {accuracy:>9} {row['agreement']:>9.3f} {row['work']:>8.2f}")
print(f"work of the full tier over the policy's: {found['work_ratio']:.1f}")

# %% [markdown]
# ## Who answers what
#
# The share of texts that each stage answers, by length of text. Long texts that go deep cost
# the most.

# %%
lookup = Lookup.of(table, work.at(table.tokens))
chosen = lookup.evaluate(policy)
edges = np.unique(np.quantile(table.tokens, [0.25, 0.5, 0.75]))
group = np.searchsorted(edges, table.tokens)
left = np.zeros(len(edges) + 1)
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for stage, name in enumerate(names):
    here = chosen.stage == stage
    share = np.bincount(group, here, len(left)) / np.bincount(group, minlength=len(left)).clip(1)
    if here.any():
        axes.barh(range(len(left)), share, left=left, label=name)
        left += share
bounds = [0, *edges.astype(int).tolist()]
labels = [f"{a + 1} to {b}" for a, b in pairwise(bounds)]
axes.set_yticks(range(len(left)), [*labels, f"over {bounds[-1]}"])
axes.set_ylabel("tokens")
axes.set_xlabel("share of texts")
_ = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# ## Is a reliability what it says?
#
# Rows are sorted into groups by a stage's reliability. In each, the share of answers that are as
# good as the full tier's should equal the mean reliability: the dots should lie on the line.
# An answer is as good if it is right, or if the full tier errs too; without labels, if it is
# the full tier's. Exits that the policy switched off are left out.

# %%
known = table.worth.known
good = as_good(table.worth)
figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
axes.plot([0, 1], [0, 1], color="0.7")
for stage, name in enumerate(names):
    if not policy.on(stage):
        continue
    groups = np.array_split(np.argsort(table.reliability[:, stage]), min(8, len(table)))
    said = [table.reliability[g, stage].mean() for g in groups]
    was = [good[g, stage].mean() for g in groups]
    axes.plot(said, was, "o-", markersize=4, label=name)
axes.set_xlabel("reliability")
axes.set_ylabel("as good as the full tier")
_ = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# ## A policy of your own
#
# One threshold for all exits. Turn it up, and fewer texts leave early. `with_threshold` changes
# a single stage, and `adaptive.types.NEVER` switches one off.

# %%
quality = "accuracy" if known else "agreement"
tiers = range(len(bundle.tiers))
for level in (0.8, 0.9, 0.95, 0.99):
    own = lookup.evaluate(shared_thresholds(bundle.stages, tiers, level))
    hit = (own.score if known else own.alike).mean()
    print(f"threshold {level:.2f}: {quality} {hit:.3f} at {own.cost.mean():.2f} {counted.unit}")

# %% [markdown]
# ## Texts of your own
#
# These do run: each answer tells which tier and exit gave it, and `explain` tells why.

# %%
texts = [
    "A wonderful film from start to finish.",
    "Dull, and far too long.",
    "It would be unfair to say that nothing in it works, but one has to look hard.",
]
for text, answer in zip(texts, pipeline(texts), strict=True):
    routing = answer["routing"]
    print(
        f"{answer['label']:>10} {answer['score']:.2f}  {routing['tier']}@{routing['depth']}  {text}"
    )

# %%
print(pipeline.explain(texts[-1]))
