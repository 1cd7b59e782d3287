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
# # Your own model and data
#
# From a table of texts and labels, and a fine-tuned classifier, to a certified cascade and its
# report. Every call is one of `adaptive`'s public names.
#
# Set the environment, or change the first cell: `ADAPTIVE_DATA` to a CSV file, `ADAPTIVE_TEXT` and
# `ADAPTIVE_LABEL` to its columns, `ADAPTIVE_MODEL` to a folder or hub id, `ADAPTIVE_BUNDLE` to
# where the bundle is to lie. Where that folder is there already, nothing is built.
#
# The outputs shown here are of a made-up bundle: random weights, words without a meaning.

# %%
import os
from pathlib import Path

import adaptive

file = os.environ.get("ADAPTIVE_DATA", "tickets.csv")
model = os.environ.get("ADAPTIVE_MODEL", "your-org/your-model")
folder = Path(os.environ.get("ADAPTIVE_BUNDLE", "../bundles/tickets"))
text = os.environ.get("ADAPTIVE_TEXT", "text")
label = os.environ.get("ADAPTIVE_LABEL", "label")
data = adaptive.load_data(file, text=text, label=label)
print(f"{len(data):,} rows, labels: {', '.join(data.label_names)}")

# %% [markdown]
# ## Build
#
# A recipe is a mapping, or a YAML file of the same. `full: {tune: none}` takes a classifier as it
# is; leave it out where the model is none yet, which is then fine-tuned first. Steps that are done
# are skipped when the cell runs again.

# %%
recipe = {
    "name": "tickets",
    "output": str(folder),
    "model": {"id": model},
    "data": {"source": file, "text": text, "label": label},
    "full": {"tune": "none"},
    "target": {"metric": "accuracy_drop", "level": 0.01},
}
if not folder.exists():
    adaptive.build(recipe, quiet=False)  # with progress bars
pipeline = adaptive.AdaptivePipeline.from_config(folder, uncertified=True)
pipeline

# %% [markdown]
# ## Look
#
# The policy beside each tier alone, on rows that the build has not seen. `report` writes all of
# it as one page that opens offline, to be sent around.

# %%
for row in adaptive.evaluate(pipeline, data)["rows"]:
    accuracy = "unknown" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
    print(f"{row['name']:>14}: accuracy {accuracy}, {row['milliseconds']:.3f} ms a text")

# %%
page = Path(os.environ.get("ADAPTIVE_REPORT", "report.html"))
found = adaptive.report(pipeline, data, page)
served = found["line"][found["chosen"]]
print(
    f"{page.name}: the served policy costs {found['full']['cost'] / served['cost']:.1f} times less"
)

# %% [markdown]
# ## Certify, and label the disagreements alone
#
# Texts without labels do: where a policy answers as the full tier, nothing is lost, whatever the
# label. `ask` gets the texts that decide and returns their labels. Here the file knows them; in
# earnest it is a person, or the buttons of `label_few`. The answer is counted: how many of the
# texts had to be labelled.

# %%
known = {text: data.label_names[label] for text, label in zip(data.texts, data.labels, strict=True)}
asked = []


def ask(texts):
    """The labels of the texts that decide."""
    asked.extend(texts)
    return [known.get(text) for text in texts]


target = adaptive.Target("accuracy_drop", float(os.environ.get("ADAPTIVE_LEVEL", "0.01")))
certificate = adaptive.certify(folder, data.texts, target, ask=ask)
print(f"{len(asked)} of {len(data):,} texts were labelled")
certificate

# %% [markdown]
# ## Serve
#
# Open it again, so that the new certificate's policy answers.

# %%
pipeline = adaptive.AdaptivePipeline.from_config(folder, uncertified=True)
for answer in pipeline(data.texts[:3]):
    print(
        f"{answer['label']}, by {answer['routing']['tier']} at depth {answer['routing']['depth']}"
    )
