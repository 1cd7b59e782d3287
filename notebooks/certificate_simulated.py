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
# # The certificate, explained by simulation
#
# A policy that looks good on held-out rows was *picked* because it looks good there. This
# notebook makes policies whose true loss is known, and counts how often three ways to pick one
# break the promise. No model is needed.

# %%
import numpy as np

from adaptive.risk import binomial, fixed_sequence

LEVEL, DELTA = 0.02, 0.05  # at most 2 % of the answers lost, wrong in at most 5 % of all cases
ROWS, DRAWS = 2000, 400
rng = np.random.default_rng(0)

# %% [markdown]
# ## Policies from dear to cheap
#
# Each loses an answer on some texts: the cheaper, the more. The promise is kept by those whose
# true loss is at most 2 %, so the cheapest that may be served is the one just before the line is
# crossed. Neighbours err on nearly the same texts, as the policies of one line do.

# %%
loss = np.linspace(0.005, 0.04, 25)
cost = np.linspace(1.0, 0.2, 25)
kept = loss <= LEVEL
print(
    f"{kept.sum()} of {len(loss)} policies keep the promise, the cheapest at {cost[kept].min():.2f}"
)


def draw(rows: int):
    """Whether each policy loses each row, [policies, rows]."""
    hardness = rng.random(rows)
    return hardness < loss[:, None]


# %% [markdown]
# ## Pick the cheapest that looks fine
#
# On the very rows that it is picked on, it always keeps the promise. In truth it breaks it in
# about half of the draws.

# %%
naive = [int(np.flatnonzero(draw(ROWS).mean(1) <= LEVEL).max()) for _ in range(DRAWS)]
print(f"picked by the held-out loss: broken in {np.mean(~kept[naive]):.1%} of {DRAWS} draws")

# %% [markdown]
# ## A margin of two standard errors
#
# What `certificate: null` does. It is broken seldom, here. But how seldom depends on how many
# policies were tried and how alike they are, and nothing is proved.

# %%
picked = []
for _ in range(DRAWS):
    seen = draw(ROWS).mean(1)
    fine = np.flatnonzero(seen + 2 * np.sqrt(seen * (1 - seen) / ROWS) <= LEVEL)
    picked.append(int(fine.max()) if len(fine) else 0)
print(f"two standard errors to spare: broken in {np.mean(~kept[picked]):.1%}")

# %% [markdown]
# ## Exact tests in a fixed order
#
# Each policy has a p-value: the chance, at most, of rows so good if it broke the promise. They
# are tested from the safest on, each at the whole 5 %, up to the first that fails. The order was
# fixed before these rows were seen. For a wrong certificate the first policy that breaks the
# promise must pass its own test, and that happens in at most 5 % of all draws, however many
# policies there are.

# %%
served = []
for _ in range(DRAWS):
    lost = draw(ROWS)
    last = fixed_sequence(binomial(lost, LEVEL), DELTA)
    served.append(0 if last is None else last)
wrong = np.mean(~kept[served])
print(f"certified: broken in {wrong:.1%}, where {DELTA:.0%} is allowed")
print(f"what it costs: {cost[served].mean():.2f} in the mean, {cost[kept].min():.2f} by an oracle")

# %% [markdown]
# ## More rows, cheaper proofs
#
# The certificate cannot be had for nothing: with few rows only policies with room to spare pass.

# %%
for rows in (500, 1000, 2000, 8000):
    found = []
    for _ in range(100):
        last = fixed_sequence(binomial(draw(rows), LEVEL), DELTA)
        found.append(1.0 if last is None else cost[last])  # the full model answers
    print(f"{rows:>6,} rows: cost {np.mean(found):.2f}")

# %% [markdown]
# ## What it does not say
#
# The rows to come must be like the certification rows. Here they are of another kind, twice as
# hard: the same certificate, and its promise is worth nothing.

# %%
print(f"true loss on other texts, the mean: {np.mean(2 * loss[served]):.2%}, promised {LEVEL:.0%}")
