"""Training without a build: each part takes arrays, modules and options.

Nothing here knows recipes, steps or work folders; `adaptive.training`'s steps read and write
those and call these functions, as a notebook may.

| function | what it does |
|---|---|
| `loop.fit` | the training loop that all others share |
| `tune.fine_tune` | a classifier learns labels |
| `teacher.outputs_of` | a trained tier's logits and pooled states, which students learn from |
| `distill.distill` | a student learns from a teacher and labels |
| `prune.prune` | a smaller tier out of a trained one |
| `exits.fit_exits` | heads at every depth of a frozen tier |
| `adaptive.routers.train.train_router` | a router on an outcome table, judged on held-out rows |
"""
