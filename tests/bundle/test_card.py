"""The model card says what is known, promises no more, and survives hostile names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.exits.reliability import Reliability
from adaptive.tiers.bag import Bag
from adaptive.tiers.tier import Tier
from adaptive.types import ALWAYS, Policy, Target

REPORT = {
    "rows": [
        {"name": "policy", "accuracy": 0.9512, "agreement": 0.991, "work": 12.34567},
        {"name": "full", "accuracy": 0.9581, "agreement": 1.0, "work": 96.0},
    ],
    "stage_shares": {"tiny@0": 0.75, "full@6": 0.25},
}
INFO = {
    "license": "apache-2.0",
    "language": "en",
    "base_model": "owner/model",
    "datasets": ["owner/reviews"],
    "device": "cpu",
    "dtype": "float32",
    "versions": {"torch": "2.13.0"},
    "steps": ["fine-tune full", "fit exits"],
}


def make_bundle(**changes: Any) -> Bundle:
    labels = changes.pop("labels", ("bad", "good"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    )
    bundle = Bundle(
        name="reviews",
        labels=labels,
        tokenizer=tokenizer,
        tiers=(Tier("tiny", Bag.from_table(torch.zeros(4, 4), 4), (0,), labels),),
        reliability=Reliability(1),
        router=None,
        log_frequency=np.zeros(4, dtype=np.float32),
        policy=Policy((0,), (ALWAYS,)),
        targets=(Target("accuracy_drop", 0.01),),
        max_length=77,
        info=INFO,
    )
    return replace(bundle, **changes)


def split(card: str) -> tuple[dict[str, Any], str]:
    empty, matter, body = card.split("---\n", 2)
    assert not empty
    return yaml.safe_load(matter), body


def test_the_front_matter_has_what_hubs_read() -> None:
    fields, _ = split(render_card(make_bundle(), REPORT))
    assert fields["license"] == "apache-2.0"
    assert fields["base_model"] == "owner/model"
    assert fields["language"] == ["en"]
    assert fields["datasets"] == ["owner/reviews"]
    assert fields["pipeline_tag"] == "text-classification"
    assert fields["library_name"] == "adaptive-cascade"
    assert fields["metrics"] == ["accuracy"]


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    fields, body = split(render_card(make_bundle(info={})))
    assert fields["license"] == "unknown"
    assert not fields.keys() & {"base_model", "language", "datasets"}
    assert "No figures were recorded." in body
    assert "## Licence\n\nUnknown." in body
    assert "Languages other than" in body


def test_figures_are_a_table_of_what_was_measured() -> None:
    _, body = split(render_card(make_bundle(), REPORT))
    assert "| run | accuracy | agreement with the full tier | layers x tokens |" in body
    assert "| policy | 95.12% | 99.10% | 12.35 |" in body
    assert "| tiny@0 | 75.0% |" in body
    assert "milliseconds a text" not in body


def test_figures_are_taken_from_the_bundle_where_no_report_is_given() -> None:
    with_figures = make_bundle(info={**INFO, "figures": REPORT})
    assert render_card(with_figures) == render_card(make_bundle(), REPORT)


def test_a_figure_missing_from_one_row_is_a_dash() -> None:
    rows = [{"name": "a", "accuracy": 0.5}, {"name": "b", "accuracy": None}]
    assert "| b | - |" in render_card(make_bundle(), {"rows": rows})


@pytest.mark.parametrize(
    "said",
    [
        "exchangeable",
        "Language: English only.",
        "measured on cpu",
        "without a certificate",
        "up to 77 tokens",
        "No router is packed",
        "at most 1.00% of the full tier's accuracy lost",
        "- fit exits",
        "torch 2.13.0",
        "`tiny` at depth 0",
    ],
)
def test_limits_use_and_making_are_told(said: str) -> None:
    assert said in render_card(make_bundle(), REPORT)


def test_the_example_names_the_repository_where_there_is_one() -> None:
    assert 'from_config("owner/name")' in render_card(make_bundle(), repository="owner/name")
    assert 'from_config("my-reviews")' in render_card(make_bundle(name="my reviews"))


@pytest.mark.parametrize("source", ["/home/someone/models/minilm", "C:\\Users\\someone\\minilm"])
def test_a_local_base_model_tells_nothing_of_the_machine(source: str) -> None:
    card = render_card(make_bundle(info={**INFO, "base_model": source}))
    assert "someone" not in card
    assert "`minilm`" in card
    assert "base_model" not in split(card)[0]


def test_hostile_names_cannot_break_out_of_their_place() -> None:
    evil = '|x`\n---\n# Owned <script>"'
    info = {**INFO, "license": evil, "language": evil, "steps": [evil], "device": evil}
    rows = [{"name": evil, "accuracy": 0.5}]
    card = render_card(make_bundle(name=evil, labels=(evil, "good"), info=info), {"rows": rows})
    _, body = split(card)
    assert "<script" not in body
    assert not [line for line in card.splitlines() if line.startswith("# Owned")]
    assert card.splitlines().count("---") == 2


def test_a_long_list_of_labels_is_cut() -> None:
    labels = tuple(f"intent_{i}" for i in range(150))
    card = render_card(make_bundle(labels=labels))
    assert "and 130 more" in card
    assert "intent_149" not in card
