"""Scorers: how much one answer is worth against another, from 0 to 1.

A scorer's opinion of two answers is fixed before any row is looked at; `agreement` is by one of
them. All but token F1 say 0 or 1.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable

from adaptive.errors import ConfigError

Scorer = Callable[[str, str], float]

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LETTER = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z])")
_ARTICLES = ("a", "an", "the")


def exact(answer: str, right: str) -> float:
    """The same text, but for case, white space at the ends and Unicode's ways to write it."""
    return float(_plain(answer) == _plain(right))


def number(answer: str, right: str) -> float:
    """The same last number; thousands may be parted by commas. 0 where either has none."""
    found, expected = _last_number(answer), _last_number(right)
    if found is None or expected is None:
        return 0.0
    return float(abs(found - expected) <= 1e-6 * max(1.0, abs(expected)))


def choice(answer: str, right: str) -> float:
    """The same last capital letter that stands by itself, as in "the answer is (B)"."""
    found, expected = _LETTER.findall(answer), _LETTER.findall(right)
    return float(bool(found) and bool(expected) and found[-1] == expected[-1])


def token_f1(answer: str, right: str) -> float:
    """Harmonic mean of precision and recall of words, without case, punctuation and articles.

    As for extractive answers in Rajpurkar et al. (2016), SQuAD, arXiv:1606.05250.
    """
    found, expected = _words(answer), _words(right)
    if not found or not expected:
        return float(found == expected)
    common = sum((Counter(found) & Counter(expected)).values())
    return 2.0 * common / (len(found) + len(expected))


def json_equal(answer: str, right: str) -> float:
    """The same JSON value, whatever the order of keys and the white space; 0 where one is none."""
    try:
        found, expected = json.loads(answer), json.loads(right)
    except ValueError:
        return 0.0
    return float(_canonical(found) == _canonical(expected))


SCORERS: dict[str, Scorer] = {
    "exact": exact,
    "number": number,
    "choice": choice,
    "f1": token_f1,
    "json": json_equal,
}


def scorer_of(name: str | Scorer) -> Scorer:
    """A scorer by its name, or a function of two answers as it is.

    Raises:
        ConfigError: no such name.
    """
    if callable(name):
        return name
    if name not in SCORERS:
        raise ConfigError(f"scorer {name!r}: expected one of {', '.join(SCORERS)}, or a function")
    return SCORERS[name]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _words(text: str) -> list[str]:
    kept = "".join(" " if sign in string.punctuation else sign for sign in _plain(text))
    return [word for word in kept.split() if word not in _ARTICLES]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
