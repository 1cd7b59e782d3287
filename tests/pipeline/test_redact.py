"""Personal data: which patterns are found, and that nothing behind them ever reads one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("presidio_analyzer", reason="needs the extra `redact`")

from tiny_builds import context_of, recipe_in, write_data, write_model
from tiny_cascade import tiny_texts

from adaptive import AdaptivePipeline
from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.header import read_header
from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import seal
from adaptive.bundle.store import load_bundle, recertify_bundle, save_bundle
from adaptive.certifying.recertify import recertify
from adaptive.cli.pool import Waiting, asker
from adaptive.config.recipe import Recipe
from adaptive.errors import BuildError, BundleError, ConfigError
from adaptive.text import tokens as token_rows
from adaptive.text.redact import KINDS, redact
from adaptive.training import prepare
from adaptive.training.published import to_yaml
from adaptive.training.steps import run
from adaptive.types import Target

# Numbers are those that are kept for examples, or made here to satisfy their checks.
FOUND = {
    "call (212) 555-0123 now": "call <PHONE> now",
    "020 7946 0958": "<PHONE>",
    "ring +44 7911 123456.": "ring <PHONE>.",
    "电话13800138000谢谢": "电话<PHONE>谢谢",
    "手机:+86 138-0013-8000": "手机:<PHONE>",
    "００８６１３８００１３８０００": "<PHONE>",
    "座机 010-6251 2345": "座机 <PHONE>",
    "身份证11010519491231002X吗": "身份证<ID>吗",
    "440524 19800101 0013": "<ID>",
    "mail a.b+c@mail.example, or not": "mail <EMAIL>, or not",
    "邮箱是abc@example.com谢谢": "邮箱是<EMAIL>谢谢",
    "müller@example.de": "<EMAIL>",
    "card 4111 1111 1111 1111": "card <CARD>",
    "卡号5555555555554444。": "卡号<CARD>。",
    "ssn 536-90-4399": "ssn <SSN>",
    "from 192.0.2.1 and 2001:db8::1": "from <IP> and <IP>",
}
LEFT = (
    "no digits at all",
    "3 of 10 at 12:30 on 2024-01-31",
    "110105194912310021",  # the check character of the first is X
    "440524198013010014",  # no month 13
    "12800138000",  # no Chinese mobile number begins with 12
    "138001380001",  # one digit too many
    "4111 1111 1111 1112",  # fails Luhn's check
    "536-00-4399",  # no such group
    "256.1.1.1",
    "a@b",
    "10086",
)
NUMBER = "13800138000"


@pytest.mark.parametrize("text", FOUND)
def test_personal_data_are_replaced_and_nothing_beside_them(text: str) -> None:
    assert redact([text], KINDS) == [FOUND[text]]
    assert redact([FOUND[text]], KINDS) == [FOUND[text]]  # once more changes nothing


@pytest.mark.parametrize("text", LEFT)
def test_near_misses_stay(text: str) -> None:
    assert redact([text], KINDS) == [text]


def test_only_the_wanted_kinds_are_replaced() -> None:
    text = f"{NUMBER} a@b.example 192.0.2.1"
    assert redact([text], ("email",)) == [f"{NUMBER} <EMAIL> 192.0.2.1"]
    assert redact([text], ("phone", "ip")) == ["<PHONE> a@b.example <IP>"]


@pytest.fixture(scope="module")
def redacting(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle before which texts lose phone numbers, with a certificate."""
    bundle = replace(tiny_cascade, redact=("phone",))
    pipeline, texts = AdaptivePipeline(bundle), list(dict.fromkeys(tiny_texts(300, 2)))
    rows = pipeline.tokenize([f"{each} {NUMBER}" for each in texts])
    unknown = np.full(len(texts), -1, np.int32)
    bundle = replace(bundle, outcomes={"search": bundle.outcomes["certify"]})
    certified = recertify(bundle, rows, unknown, Target("agreement", 0.4))
    folder = tmp_path_factory.mktemp("redacting") / "bundle"
    save_bundle(certified, folder, card=render_card(certified), recipe="name: tiny\n")
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """All that any tokenizer reads."""
    found: list[str] = []
    call: Callable[..., Any] = token_rows._encodings

    def spy(tokenizer: Any, texts: list[str], pairs: list[str] | None) -> Any:
        found.extend([*texts, *(pairs or ())])
        return call(tokenizer, texts, pairs)

    monkeypatch.setattr(token_rows, "_encodings", spy)
    yield found
    assert found


def test_a_bundle_answers_raw_and_redacted_texts_alike_and_never_reads_a_number(
    redacting: Path, read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pipeline = AdaptivePipeline.from_config(redacting)
    texts = tiny_texts(20, 3)
    raw, clean = ([f"{each} {told}" for each in texts] for told in (NUMBER, "<PHONE>"))
    assert pipeline(raw) == pipeline(clean)
    assert list(pipeline(iter(raw))) == pipeline(clean)
    assert pipeline(list(zip(texts, raw, strict=True))) == pipeline(
        list(zip(texts, clean, strict=True))
    )
    pipeline.explain(raw[0])
    assert pipeline(raw[0])[0]["routing"]["covered"]
    told = "\n".join(map(str, [*read, caplog.text]))
    assert NUMBER not in told and "<PHONE>" in told


def test_what_is_redacted_stands_in_card_and_certificate_and_stays_when_certified_again(
    redacting: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(redacting)
    assert bundle.redact == ("phone",)
    assert "lose personal data (phone)" in (redacting / LAYOUT.card).read_text()
    assert "lose personal data (phone)" in (redacting / LAYOUT.certificate_page).read_text()
    copy = tmp_path / "copy"
    shutil.copytree(redacting, copy)
    recertify_bundle(bundle, copy, card=render_card(bundle))
    assert load_bundle(copy).redact == ("phone",)


def test_a_certificate_is_void_where_what_is_redacted_changes(
    redacting: Path, tmp_path: Path
) -> None:
    for changed in ('{"kinds": ["email"]}', None):
        copy = tmp_path / str(changed is None)
        shutil.copytree(redacting, copy)
        file = copy / LAYOUT.redact
        file.unlink() if changed is None else file.write_text(changed)
        seal(copy)
        with pytest.raises(BundleError, match=r"redact\.json"):
            load_bundle(copy)
        assert load_bundle(copy, uncertified=True).certificate is None


def test_a_bundle_that_redacts_does_not_open_without_what_finds_personal_data(
    redacting: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.text.redact.find_spec", lambda name: None)
    with pytest.raises(
        BundleError, match=r"redact\.json.*pip install 'adaptive-cascade\[redact\]'"
    ):
        load_bundle(redacting)
    load_bundle(tiny_bundle)


def test_other_bundles_are_written_as_before(tiny_bundle: Path) -> None:
    assert not (tiny_bundle / LAYOUT.redact).exists()
    assert '"redact"' not in (tiny_bundle / LAYOUT.header).read_text()
    assert read_header(tiny_bundle).name == "tiny-cascade"


def _recipe(folder: Path, **changes: Any) -> Recipe:
    """A recipe whose every tenth text has a number, in a folder with all that it needs."""
    write_model(folder / "model")
    lines = write_data(folder / "data.csv").read_text().splitlines()
    lines[1::10] = [f"{NUMBER} {each}" for each in lines[1::10]]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    extra = {"source": str(folder / "data.csv"), "label": None}
    data = {"unlabelled": [extra], **changes.pop("data", {})}
    return recipe_in(folder, {"data": data, **changes})


def test_no_split_of_a_build_holds_a_number(tmp_path: Path, read: list[str]) -> None:
    recipe = _recipe(tmp_path, redact=["phone"])
    context = context_of(recipe, tmp_path / "run")
    assert run(prepare.STEP, context)
    texts = "\n".join(read)
    assert NUMBER not in texts and "<PHONE>" in texts
    assert to_yaml(recipe).count("\nredact:\n- phone\n") == 1


def test_labels_of_a_pool_are_asked_of_redacted_texts(tmp_path: Path) -> None:
    pool = {"source": str(tmp_path / "data.csv")}
    recipe = _recipe(tmp_path, redact=["phone"], data={"pool": pool})
    made = asker(recipe, tmp_path / "run", tmp_path / "todo.csv", None, finish=False)
    assert made is not None
    texts = prepare.load_splits(recipe)[0].texts
    with pytest.raises(Waiting):
        made([each for each in texts if "<PHONE>" in each])
    assert NUMBER not in (tmp_path / "todo.csv").read_text()


def test_builds_without_redaction_are_what_they_were(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    plain, redacting = (
        prepare.STEP.reads(context_of(each, tmp_path))
        for each in (recipe, recipe.model_copy(update={"redact": ("phone",)}))
    )
    assert "redact" not in plain and redacting["redact"] == ("phone",)
    assert plain["content"] != redacting["content"]
    assert "\nredact:" not in to_yaml(recipe)


def test_a_build_that_redacts_is_refused_without_what_finds_personal_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(tmp_path, redact=["phone"])
    monkeypatch.setattr("adaptive.text.redact.find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"redact.*adaptive-cascade\[redact\]"):
        prepare.load_splits(recipe)


def test_a_recipe_names_known_kinds_once(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValueError), match="twice"):
        recipe_in(tmp_path, {"redact": ["phone", "phone"]})
    with pytest.raises((ConfigError, ValueError), match="redact"):
        recipe_in(tmp_path, {"redact": ["name"]})
