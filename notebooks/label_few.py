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
# # Certify by labelling only what matters
#
# Where a policy answers as the full tier does, it is neither worse nor better there, whatever the
# label. So every stage runs on unlabelled texts, and only those are shown here whose labels the
# next test needs. The certificate says the same as if all had been labelled
# (`adaptive.certificate.asking` proves it).
#
# `ADAPTIVE_BUNDLE` names the bundle, and `ADAPTIVE_POOL` a file of unlabelled texts, which must
# have served for nothing else: CSV, JSONL, JSON or Parquet. Without it, the test rows of the
# bundle's own recipe stand in.
#
# The outputs shown here are of a made-up bundle: random weights, words without a meaning.

# %%
import os
from pathlib import Path

from adaptive import AdaptivePipeline
from adaptive.certifying.buttons import buttons, progress
from adaptive.certifying.labelling import Labelling
from adaptive.cli.labelled import load_labelled, own_data
from adaptive.training.data import load_data

folder = Path(os.environ.get("ADAPTIVE_BUNDLE", "../bundles/rotten_tomatoes"))
pipeline = AdaptivePipeline.from_config(folder, uncertified=True)
pool = os.environ.get("ADAPTIVE_POOL")
if pool:
    source = own_data(str(folder)).model_copy(update={"source": pool, "label": None})
    data = load_data(source)
else:
    data = load_labelled(None, str(folder), pipeline.bundle.labels)
texts = data.texts if data.pairs is None else list(zip(data.texts, data.pairs, strict=True))
print(f"{len(texts):,} texts, {len(pipeline.bundle.labels)} labels")

# %% [markdown]
# ## What is fixed before a label is seen
#
# The policies and their order come from the bundle's search rows, and so does the lower bound of
# the full tier's accuracy, of which the promise is a share. The next steps of the sequence: how
# many labels each is expected to take, and how much less it would cost than what is proved so far.

# %%
turns = Labelling(pipeline, texts, batch=10)
line = turns.plan.lines[0]
print(f"rows on which some policy differs from the full tier: {line.differs.any(0).sum():,}")
print(f"margin: {line.margin:.2%} of the texts may be lost, net")
for step in turns.outlook():
    told = (
        f"{step.saves:.1%} less cost" if step.passes else "expected to fail, and end the sequence"
    )
    print(f"about {step.labels:>4} labels: {told}")

# %% [markdown]
# ## Label
#
# One click a text. Rows whose label is not known count as lost. Stop whenever you like: what is
# proved by then holds.

# %%
buttons(turns)

# %% [markdown]
# ## What is proved
#
# Run this cell at any time. `recertify_bundle(bundle, folder, card=render_card(bundle))` of
# `adaptive.bundle.store` and `adaptive.bundle.card` writes it into the bundle's folder.

# %%
bundle = turns.bundle()
certificate = bundle.certificate
print(progress(turns))
print(
    f"{certificate.headline}: {certificate.certified} of {len(certificate.front)} policies passed"
)
prices = [tested.cost for tested in certificate.front]
served = min(prices[: max(1, certificate.certified)])
print(f"times less than the first of them costs: {prices[0] / served:.2f} ({certificate.unit})")
