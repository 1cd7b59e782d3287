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
# # What the exits see
#
# An exit stops a text if it is sure enough of its answer. What does it look at, and how soon is
# it right to be sure? Everything here is recorded once, for some texts.
#
# `ADAPTIVE_BUNDLE` names the bundle, and `ADAPTIVE_DATA` labelled rows; without them, the demo's
# bundle and the test rows of its own recipe.
#
# The outputs shown here are of a made-up bundle: random weights, words without a meaning.

# %%
# %matplotlib inline
import os

import numpy as np
from matplotlib import pyplot as plt

from adaptive import AdaptivePipeline, load_data
from adaptive.cli.labelled import load_labelled
from adaptive.exits.measures import FEATURES
from adaptive.measure.recording import features_of, record, tabulate
from adaptive.policy.worth import as_good
from adaptive.routers.train import auc

folder = os.environ.get("ADAPTIVE_BUNDLE", "../bundles/rotten_tomatoes")
pipeline = AdaptivePipeline.from_config(folder, uncertified=True)
bundle = pipeline.bundle
file = os.environ.get("ADAPTIVE_DATA")
data = load_labelled(None, folder, bundle.labels) if file is None else load_data(file)
data = data.with_labels(bundle.labels, {}).take(np.arange(min(len(data), 500)))
names = [f"{bundle.tiers[s.tier].name}@{s.depth}" for s in bundle.stages]
seen = record(bundle.tiers, pipeline.tokenize(data.texts, data.pairs), 32)
table = tabulate(seen, bundle.reliability, data.labels, None, bundle.log_frequency)
features = [each.numpy() for each in features_of(seen, bundle.reliability)]
pipeline.policy

# %% [markdown]
# ## Sure and right, by depth
#
# Solid: the share of answers that are as good as the full tier's. Dashed: how sure the exit says
# it is, its mean reliability. Where both lie on each other, the reliability can be believed.

# %%
good = as_good(table.worth)
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for tier, each in enumerate(bundle.tiers):
    own = [k for k, s in enumerate(bundle.stages) if s.tier == tier]
    depths = [bundle.stages[k].depth for k in own]
    (drawn,) = axes.plot(depths, good[:, own].mean(0), "o-", label=each.name)
    axes.plot(depths, table.reliability[:, own].mean(0), "--", color=drawn.get_color())
axes.set_xlabel("layers before the exit")
axes.set_ylabel("as good as the full tier")
_ = axes.legend()

# %% [markdown]
# ## Saturation
#
# The cosine of a text's state at an exit and at the one before. Near 1 the state has stopped
# moving, and further layers are expected to change little.

# %%
place = FEATURES.index("saturation")
for k, name in enumerate(names):
    if bundle.stages[k].exit:
        moved = features[k][:, place]
        low, middle, high = np.quantile(moved, [0.1, 0.5, 0.9])
        print(f"{name:>8}: {low:.2f} {middle:.2f} {high:.2f}  (10th, 50th, 90th hundredth)")

# %% [markdown]
# ## Which measure tells good answers from bad ones?
#
# The chance that an answer that is as good as the full tier's scores higher than one that is not;
# 0.5 is guessing. The reliability reads all measures together.

# %%
chosen = ("max_probability", "margin", "energy", "streak", "saturation", "anchor_max_probability")
print(f"{'':>8}  reliability  " + "  ".join(chosen))
for k, name in enumerate(names[:-1]):
    scores = [table.reliability[:, k], *(features[k][:, FEATURES.index(each)] for each in chosen)]
    told = [auc(score, good[:, k]) for score in scores]
    print(f"{name:>8}  " + "  ".join("   -" if each is None else f"{each:.2f}" for each in told))

# %% [markdown]
# ## One text, from exit to exit

# %%
print(pipeline.explain(data.texts[0]))
