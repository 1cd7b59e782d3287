"""Certify what was recorded: language models and any black box, from a file of outcomes.

    from adaptive.recorded import certify_outcomes, open, write
    from adaptive.types import Target

    found = certify_outcomes("outcomes.jsonl", Target("accuracy_drop", 0.02), prices="prices.yaml")
    write(found, "router/")
    router = open("router/")
    tier = router.route("What is 7 x 8?")

No model runs. See docs/outcomes.md for the file.
"""
