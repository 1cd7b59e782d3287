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
# # Route language models from recorded outcomes
#
# May a cheaper model answer, for which requests, and is there proof? A file of what each model made
# of the same requests is all that is needed: no model runs here.
#
# The file is a slice of ZeroEval's results on GSM8K (Apache-2.0, see `configs/outcomes/NOTICE.md`):
# 300 questions, and of three models whether the answer is right, the number answered and how long
# the answer is. `ADAPTIVE_OUTCOMES` names another file in the same form (docs/outcomes.md).

# %%
import os
from importlib.resources import files
from pathlib import Path

from adaptive import recorded
from adaptive.recorded.page import policy_words
from adaptive.recorded.verdicts import headline
from adaptive.types import Target

shipped = Path(str(files("adaptive.configs"))) / "outcomes"
file = Path(os.environ.get("ADAPTIVE_OUTCOMES", shipped / "gsm8k.jsonl"))
outcomes = recorded.read_outcomes(file)
for model, score in zip(outcomes.models, outcomes.score.mean(0), strict=True):
    print(f"{model}: {score:.1%} right")

# %% [markdown]
# ## May the small model replace the large one?
#
# The promise is relative: at most a tenth of the large model's right answers are lost, at 95 %
# confidence. Right answers of the small model where the large one errs are credited. Prices are
# dollars per million tokens; tokens were not counted, so letters / 4 stand in.

# %%
pair = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")
prices = shipped / "prices.yaml"
found = recorded.certify_outcomes(
    outcomes, Target("accuracy_drop", 0.10), tiers=pair, prices=prices, scorer="number"
)
print(headline(found.certificate, found.layout, found.figures))

# %% [markdown]
# ## A tighter promise, and what it takes
#
# Half of the requests certify: 150. Where they do not prove a promise, the verdict says so, and
# about how many requests would.

# %%
tight = recorded.certify_outcomes(
    outcomes, Target("accuracy_drop", 0.02), tiers=pair, prices=prices, scorer="number", seed=1
)
print(headline(tight.certificate, tight.layout, tight.figures))

# %% [markdown]
# ## Three models
#
# A chain knows the answers before it: where two small models answer alike, that says much. The
# estimates of what an answer loses are fitted on rows that neither search nor certify.

# %%
three = recorded.certify_outcomes(
    outcomes, Target("accuracy_drop", 0.10), prices=prices, scorer="number", seed=2
)
print(headline(three.certificate, three.layout, three.figures))
for line in policy_words(three.certificate.policy, three.layout):
    print("-", line)
for name, fit in three.fits.items():
    print(f"{name}: {fit.kind}, log loss {fit.log_loss:.3f} out of fold")

# %% [markdown]
# ## A folder that decides
#
# It holds no word of a prompt, and `VERDICT.md` says all of this in plain words. A caller of the
# models asks it which to call first, and whether an answer is given.

# %%
folder = recorded.write(three, Path(os.environ.get("ADAPTIVE_ROUTER", "gsm8k.router")))
router = recorded.open(folder)
question = "A farmer has 7 hens and buys twice as many. How many hens are there?"
tier = router.route(question)
print("call first:", tier)
print("give 21:", router.accept(tier, {"prompt": question, "answer": "21", "characters": 120}))
print("else call:", router.following(tier))

# %% [markdown]
# A model that changed behind its name is not what was certified.

# %%
now = {"asked": router.models[-1], "settings": {"temperature": 1}}
print(router.covers(now).verdict, router.covers(now).reasons)
