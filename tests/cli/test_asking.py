"""`adaptive certify --unlabelled`: texts to label in turns, to the certificate."""

from __future__ import annotations

import codecs
import csv
import json
import shutil
from pathlib import Path

import pytest
from tiny_pool import pool, searched
from typer.testing import CliRunner, Result

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.cli import app
from adaptive.cli.todo import ids_of, read_labels, write_todo
from adaptive.training.data import from_memory

TARGET = ("--target", "accuracy_drop=0.3")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in args])


@pytest.fixture(scope="module")
def pristine(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = searched(tiny_cascade)
    folder = tmp_path_factory.mktemp("asking") / "bundle"
    return save_bundle(bundle, folder, card=render_card(bundle), recipe="name: x\n")


@pytest.fixture(scope="module")
def known(tiny_cascade: Bundle) -> tuple[list[str], dict[str, str]]:
    return pool(searched(tiny_cascade), 250)


@pytest.fixture
def folder(pristine: Path, known: tuple[list[str], dict[str, str]], tmp_path: Path) -> Path:
    """A bundle to change, and a pool in which one text stands twice."""
    shutil.copytree(pristine, tmp_path / "bundle")
    texts = known[0]
    lines = ["text", *texts[:200], texts[0], *texts[200:]]
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def ask(folder: Path, *more: str | Path) -> Result:
    todo = folder / "todo.csv"
    given = (folder / "bundle", folder / "pool.csv", "--unlabelled", "--ask", todo, *TARGET)
    return run("certify", *given, "--json", *more)


def fill(file: Path, done: Path, labels: dict[str, str]) -> list[dict[str, str]]:
    with file.open(newline="") as given:
        rows = list(csv.DictReader(given))
    for row in rows:
        row["label"] = labels[row["text"]]
    with done.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_labels_in_turns_end_in_the_certificate_of_all_labels(
    folder: Path, known: tuple[list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, done = known[1], folder / "done.csv"
    first = ask(folder, "--batch", "60")
    assert first.exit_code == 0, first.output
    facts = json.loads(first.stdout)
    assert (facts["asked"], facts["labels"], facts["repeated"]) == (60, 0, 1)
    monkeypatch.setattr("adaptive.certifying.unlabelled.outcomes", None)  # no stage runs again
    asked: list[str] = []
    while facts["result"] is None:
        rows = fill(folder / "todo.csv", done, labels)
        assert set(rows[0]) == {"row", "text", "label"}  # and no tier's answer
        asked += [row["row"] for row in rows]
        found = ask(folder, "--batch", "60", "--labels", done)
        assert found.exit_code == 0, found.output
        facts = json.loads(found.stdout)
    assert len(set(asked)) == len(asked) == facts["labels"] < 150
    assert (facts["n"], facts["repeated"]) == (250, 1)
    certificate = load_bundle(folder / "bundle").certificate
    assert certificate is not None and certificate.asked is not None
    assert certificate.asked.ended and certificate.asked.labels == len(asked)
    page = (folder / "bundle" / "CERTIFICATE.md").read_text()
    assert f"{len(asked)} of the 250 rows" in page and "300 search rows" in page


def test_texts_of_any_script_go_out_as_spreadsheets_read_them_and_come_back(
    tmp_path: Path,
) -> None:
    data = from_memory(["退款，还没到账？", "他说“没问题”\n谢谢"])
    ids, file = ids_of(data), tmp_path / "todo.csv"
    write_todo(file, data, ids, [0, 1])
    raw = file.read_bytes()
    assert raw.startswith(codecs.BOM_UTF8)
    labelled = raw.replace(b",\r\n", ",退款\r\n".encode())
    file.write_bytes(labelled)
    assert read_labels(file, ids, ["退款"], {}) == dict.fromkeys(ids, "退款")


def test_the_labels_to_choose_from_are_told(folder: Path) -> None:
    given = (folder / "bundle", folder / "pool.csv", "--unlabelled")
    result = run("certify", *given, "--ask", folder / "todo.csv", *TARGET)
    assert "Fill in `label`, with bad, good, so-so, and run" in " ".join(result.stdout.split())


def test_whoever_stops_gets_what_is_proved_so_far(
    folder: Path, known: tuple[list[str], dict[str, str]]
) -> None:
    facts = json.loads(ask(folder, "--batch", "10").stdout)
    found = json.loads(ask(folder, "--finish").stdout)
    assert found["certified"] == facts["certified"] and found["labels"] == 0
    certificate = load_bundle(folder / "bundle").certificate
    assert certificate is not None and certificate.asked is not None
    assert not certificate.asked.ended
    assert "stopped before its end" in (folder / "bundle" / "CERTIFICATE.md").read_text()


def test_labels_that_cannot_be_taken_are_refused_by_row(
    folder: Path, known: tuple[list[str], dict[str, str]]
) -> None:
    texts, labels = known
    ask(folder, "--batch", "5")
    done = folder / "done.csv"
    rows = fill(folder / "todo.csv", done, labels)
    good = done.read_text()
    lines = good.splitlines()
    key = rows[0]["row"]
    cases = {
        good.replace(f"{key},", "9-00000000,"): "its id is none of this pool's 250",
        good + lines[1] + "\n": f"the id {key} stands twice",
        good.replace(lines[1], lines[1].rsplit(",", 1)[0] + ","): "no label; fill it in",
        good.replace(lines[1], lines[1].rsplit(",", 1)[0] + ",awful"): "is not one of the 3 labels",
        good.replace("row,", "id,"): "no column 'row'",
    }
    for content, told in cases.items():
        done.write_text(content)
        result = ask(folder, "--labels", done)
        assert result.exit_code == 2, result.output
        message = result.stderr
        assert told in " ".join(message.split()) and not any(text in message for text in texts[:50])
    assert json.loads((folder / "todo.state" / "state.json").read_text())["labels"] == {}
    done.write_text(good)
    assert ask(folder, "--labels", done).exit_code == 0
    other = {"good": "bad", "bad": "good", "so-so": "good"}
    fill_in = lines[1].rsplit(",", 1)
    done.write_text(f"{lines[0]}\n{fill_in[0]},{other[fill_in[1]]}\n")
    assert "another label before" in ask(folder, "--labels", done).stderr


def test_another_pool_promise_or_bundle_is_refused(folder: Path) -> None:
    assert ask(folder).exit_code == 0
    changed = ask(folder, "--confidence", "0.9")
    assert changed.exit_code == 2 and "another confidence" in changed.stderr
    file = folder / "pool.csv"
    file.write_text(file.read_text() + "word1 word2 word3 word9\n")
    changed = ask(folder)
    assert changed.exit_code == 2 and "another pool" in changed.stderr


def test_labels_that_were_not_read_are_never_written_over(
    folder: Path, known: tuple[list[str], dict[str, str]]
) -> None:
    todo = folder / "todo.csv"
    ask(folder, "--batch", "5")
    ask(folder, "--batch", "5")  # nothing is in it yet
    fill(todo, todo, known[1])
    before = todo.read_text()
    refused = ask(folder, "--batch", "5")
    assert refused.exit_code == 2 and "holds 5 labels that were not read" in refused.stderr
    assert todo.read_text() == before
    assert ask(folder, "--batch", "5", "--labels", todo).exit_code == 0
    assert todo.read_text() != before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--unlabelled"], "name a file for"),
        (["--labels", "x.csv"], "--labels: belongs to --unlabelled"),
        (["--finish"], "--finish: belongs to --unlabelled"),
        (["--unlabelled", "--ask", "todo.txt"], "expected one of .csv, .jsonl"),
        (["--unlabelled", "--ask", "t.csv", "--labels", "none.csv"], "no such file"),
        (["--unlabelled", "--ask", "t.csv", "--target", "agreement=0.1"], "need no labels at all"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folder: Path, options: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = run("certify", "bundle", "pool.csv", *options)
    assert result.exit_code == 2 and told in " ".join(result.stderr.split()), result.output
    assert not list(folder.glob("*.state"))
