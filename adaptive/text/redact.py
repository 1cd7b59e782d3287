"""Personal data in texts replaced by placeholders, such as `call <PHONE>`.

It is found by patterns and checksums alone, so nothing is downloaded, no network is used, and the
same text always becomes the same one. Phone numbers, payment cards, American social security
numbers and IP addresses are found by presidio's recognisers, called without the language models
that it has for names and places. E-mail addresses, and Chinese mobile and resident identity
numbers are found here: presidio asks the network which domains there are, and has no others.

Names and addresses of people are not found. Numbers that merely look like a phone number are
replaced too: rather one too many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

Kind = Literal["email", "cn_id", "card", "ip", "us_ssn", "phone"]
Kinds = tuple[Kind, ...]
KINDS: Kinds = get_args(Kind)  # where two overlap, both are replaced by the first one's placeholder
PLACEHOLDERS: dict[Kind, str] = {
    "email": "<EMAIL>",
    "cn_id": "<ID>",
    "card": "<CARD>",
    "ip": "<IP>",
    "us_ssn": "<SSN>",
    "phone": "<PHONE>",
}
PACKAGE = "presidio_analyzer"
REGIONS = ("US", "GB", "CN")  # whose numbers are known without their country's code
SURE = 0.3  # presidio's score, of 1, below which any nine digits would be a social security number

Find = Callable[[str], Iterator[tuple[int, int]]]  # where it begins and ends

_SUSPECT = re.compile(r"\d|[@＠]|::")  # of what may hold any; most texts do not
# Full-width forms as ASCII, all spaces and dashes as one: a character for each, so places stay.
_ALIKE: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000), " "),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), "-"),
}
# Han and kana are written without spaces, and would be taken for letters of the word beside them.
_UNSPACED = re.compile("[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")
# Local part and labels are bounded as in RFC 5321 and 1035, else a long text takes squared time.
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_CN_MOBILE = re.compile(r"(?<!\d)(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?!\d)", re.ASCII)
_CN_ID = re.compile(
    r"(?<!\d)[1-9]\d{5}[ -]?(?:19|20)\d\d[ -]?(?:0[1-9]|1[0-2])[ -]?(?:0[1-9]|[12]\d|3[01])[ -]?"
    r"\d{3}[\dXx](?!\w)",
    re.ASCII,
)
_CHECKS = "10X98765432"


def redact(texts: Sequence[str], kinds: Kinds) -> list[str]:
    """The texts [n], each piece of personal data of these kinds replaced by its placeholder.

    Placeholders hold nothing that is found, so redacting again changes nothing.

    Raises:
        ImportError: presidio is not installed.
    """
    finders = _finders(kinds)
    return [_redacted(text, finders) if _SUSPECT.search(text) else text for text in texts]


def lacking() -> str | None:
    """What is not installed that finds personal data, and what to do; None where all is."""
    if find_spec(PACKAGE) is not None:
        return None
    return "presidio-analyzer is not installed; pip install 'adaptive-cascade[redact]'"


def _redacted(text: str, finders: Sequence[tuple[Kind, Find]]) -> str:
    plain = _UNSPACED.sub(" ", text.translate(_ALIKE))
    found = sorted(
        (start, stop, KINDS.index(kind)) for kind, find in finders for start, stop in find(plain)
    )
    parts: list[str] = []
    end = 0
    while found:
        start, stop, kind = found.pop(0)
        while found and found[0][0] < stop:
            _, other, rank = found.pop(0)
            stop, kind = max(stop, other), min(kind, rank)
        parts += [text[end:start], PLACEHOLDERS[KINDS[kind]]]
        end = stop
    return "".join([*parts, text[end:]])


@cache
def _finders(kinds: Kinds) -> tuple[tuple[Kind, Find], ...]:
    """What finds each kind."""
    if why := lacking():
        raise ImportError(why)
    # It imports spaCy, of which nothing here is used: seconds that only redaction shall cost.
    from presidio_analyzer import predefined_recognizers as presidio

    known: dict[Kind, tuple[Find, ...]] = {
        "email": (_matches(_EMAIL),),
        "cn_id": (_cn_ids,),
        "card": (_by(presidio.CreditCardRecognizer()),),
        "ip": (_by(presidio.IpRecognizer()),),
        "us_ssn": (_by(presidio.UsSsnRecognizer()),),
        "phone": (
            _matches(_CN_MOBILE),
            _by(presidio.PhoneRecognizer(supported_regions=REGIONS)),
        ),
    }
    return tuple((kind, find) for kind in kinds for find in known[kind])


def _by(recogniser: Any) -> Find:
    """What one of presidio's recognisers finds."""

    def find(text: str) -> Iterator[tuple[int, int]]:
        for each in recogniser.analyze(text, recogniser.supported_entities, None):
            if each.score >= SURE:
                yield each.start, each.end

    return find


def _matches(pattern: re.Pattern[str]) -> Find:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _cn_ids(text: str) -> Iterator[tuple[int, int]]:
    """Resident identity numbers (GB 11643-1999), told from other numbers by their last character.

    It is the check character of ISO 7064 MOD 11-2.
    """
    for match in _CN_ID.finditer(text):
        *digits, check = (each for each in match[0].upper() if each not in " -")
        total = sum(int(each) * pow(2, 17 - place, 11) for place, each in enumerate(digits))
        if _CHECKS[total % 11] == check:
            yield match.span()
