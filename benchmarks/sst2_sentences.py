"""SST-2 with whole sentences held out.

GLUE's SST-2 trains on phrases of sentences, and its test is whole sentences of others. Held-out
phrases overlap with trained ones, so they say little about the test. Here the sentences are found
again (the phrases that no longer phrase contains), some are held out as they are, and the phrases
of the others are the training rows.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

HELD_OUT = 4000  # sentences
LEAST = 4  # words; shorter phrases stand in many sentences

Row = tuple[str, str]


def write(source: Path, goal: Path, seed: int = 0) -> dict[str, int]:
    """Write goal/{train,validation,test}.csv from source/*.csv; returns the counts."""
    rows = _read(source / "train.csv") + _read(source / "validation.csv")
    sentences, home = find_sentences([text for text, _ in rows])
    shuffled = list(range(len(sentences)))
    random.Random(seed).shuffle(shuffled)
    held_out = set(shuffled[:HELD_OUT])
    known = _short_phrases(s for i, s in enumerate(sentences) if i not in held_out)
    train, validation = [], []
    for text, label in dict(rows).items():
        place = home.get(text)
        if place is None:
            train += [(text, label)] * (text in known)
        elif place not in held_out:
            train.append((text, label))
        elif text == sentences[place]:
            validation.append((text, label))
    goal.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("validation", validation)):
        _write(goal / f"{name}.csv", part)
    test = _read(source / "test.csv")
    _write(goal / "test.csv", test)
    return {"sentences": len(sentences), "train": len(train), "validation": len(validation)}


def find_sentences(texts: list[str]) -> tuple[list[str], dict[str, int]]:
    """Phrases that no longer one contains, and for each phrase the first that contains it."""
    sentences: list[str] = []
    home: dict[str, int] = {}
    by_start: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for text in sorted(set(texts), key=lambda t: (-len(t.split()), t)):
        words = text.split()
        if len(words) < LEAST:
            continue
        found = next(
            (i for i in by_start[tuple(words[:LEAST])] if f" {text} " in f" {sentences[i]} "), None
        )
        if found is None:
            found = len(sentences)
            sentences.append(text)
            for start in range(len(words) - LEAST + 1):
                by_start[tuple(words[start : start + LEAST])].append(found)
        home[text] = found
    return sentences, home


def _short_phrases(sentences: Iterable[str]) -> set[str]:
    found = set()
    for sentence in sentences:
        words = sentence.split()
        for size in range(1, LEAST):
            found |= {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
    return found


def _read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [(row["text"].strip(), row["label"]) for row in csv.DictReader(stream)]


def _write(file: Path, rows: list[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
