"""serve.yaml: where the server listens, what it takes in, who may ask."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from adaptive.config.documents import read_document
from adaptive.config.faults import describe
from adaptive.config.fields import (
    Count,
    Name,
    NotNegative,
    PartShare,
    Positive,
    Section,
    Switch,
    Whole,
)
from adaptive.errors import ConfigError

Scope = Literal["predict", "routing", "feedback", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = ("predict", "routing", "feedback", "admin", "metrics")


class Limits(Section):
    """What is taken in. Beyond it a request is refused at once."""

    requests: Whole = 256  # in flight
    items: Whole = 1024  # of a request
    bytes: Whole = 1_000_000  # of a body, or of a line of a stream
    stream_bytes: Whole = 16_000_000  # of a stream's body whose length is told beforehand
    depth: Whole = 16  # of JSON
    queued_ms: Positive = 4000.0  # expected milliseconds of the rows that are in the engine
    body_s: Positive = 15.0  # until a body has come, or the next piece of a stream


class Key(Section):
    """Who may ask. The key itself is not here, only its hash."""

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...] = ("predict",)
    requests_a_minute: Whole | None = None
    cost_a_minute: Positive | None = None  # in expected milliseconds


class Golden(Section):
    """A text whose answer is known: a bundle that answers it otherwise is not served."""

    text: str
    text_pair: str | None = None
    label: Name


class Tls(Section):
    """Files in PEM."""

    certificate: Name
    key: Name
    authorities: Name | None = None  # clients must show a certificate of these


class Audit(Section):
    """Which share of the traffic the full tier answers besides, while nothing else is to do."""

    share: PartShare = 0.02  # of requests; 0 switches it off
    alpha: Annotated[PartShare, Field(gt=0)] = 0.01  # chance of ever raising a false alarm
    backlog: Whole = 64  # rows that wait for it at most


class Feedback(Section):
    """Labels that users send. Without a folder none of it is kept: it is tested and forgotten."""

    folder: Name | None = None  # texts and labels are written there, for their owner's eyes alone
    bytes: Whole = 64_000_000  # of the file in it, beyond which nothing more is kept


class Canary(Section):
    """Another bundle that answers a share of the requests on trial, once an operator says so."""

    bundle: Name
    share: Annotated[PartShare, Field(gt=0)] = 0.05


class Ray(Section):
    """Replicas of the server on a Ray cluster, where it is told to run on one."""

    min_replicas: Whole = 1
    max_replicas: Whole = 4
    queued_ms: Positive = (
        200.0  # of limits.queued_ms, that a replica should have; more: more of them
    )
    cpus: NotNegative = 1.0  # of a replica
    gpus: NotNegative = 0.0
    ingresses: Whole = 1  # that pass requests on to replicas
    timeout_s: Positive = 60.0  # of a request, from its body to its answer

    @model_validator(mode="after")
    def _ordered(self) -> Ray:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}"
            )
        return self


class Settings(Section):
    """How a bundle is served over HTTP."""

    host: Name = "127.0.0.1"
    port: Annotated[Count, Field(le=65535)] = 8000
    insecure: Switch = False  # whether others than this machine may ask without a key
    name: Name | None = None  # of the model; None = the bundle's
    limits: Limits = Limits()
    keys: tuple[Key, ...] = ()
    tls: Tls | None = None
    golden: tuple[Golden, ...] = ()
    deadline_ms: Positive | None = None  # of requests that tell none
    drain_s: NotNegative = 30.0  # that requests in flight have when the server is to stop
    hang_s: Positive = 30.0  # of one step of the engine, beyond which it counts as hung
    warm_up: Switch = True
    log: Switch = True  # a line for each request, on stderr
    page: Switch = True  # at /
    traces: Switch = False  # of OpenTelemetry
    audit: Audit = Audit()
    feedback: Feedback = Feedback()
    canary: Canary | None = None
    ray: Ray = Ray()

    @field_validator("keys")
    @classmethod
    def _own_names(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        for name in ("name", "sha256"):
            values = [getattr(key, name) for key in keys]
            if len(set(values)) < len(values):
                raise ValueError(f"two keys have the same {name}; each needs its own")
        return keys

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        if not (self.keys or self.insecure or is_loopback(self.host)):
            raise ValueError(
                f"host: {self.host} can be reached from other machines, and there are no keys. "
                "Make one with `adaptive serve --new-key NAME`, or set `insecure: true`"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(
    source: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from a YAML file; None: the defaults.

    Paths in the file are relative to it.

    Args:
        overrides: values of the first level in place of the file's.

    Raises:
        ConfigError: with every fault, its path and, where one is near, the right name.
    """
    value: Any = {}
    name, marks = "serve settings", {}
    if source is not None:
        document = read_document(source)
        name, marks = document.name, dict(document.marks)
        value = {} if document.value is None else document.value
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{name}: settings are a mapping of keys, found a {type(value).__name__}"
            )
        value = _beside(value, Path(source).parent)
    value = {**value, **(overrides or {})}
    for key in overrides or {}:
        marks.pop((key,), None)
    try:
        return Settings.model_validate(value)
    except ValidationError as error:
        faults = describe(error, Settings, marks)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{name}: {count}", faults) from None


_PLACES = (
    ("tls", ("certificate", "key", "authorities")),
    ("feedback", ("folder",)),
    ("canary", ("bundle",)),
)


def _beside(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Files and folders as seen from the current folder."""
    placed = dict(value)
    for section, names in _PLACES:
        given = value.get(section)
        if isinstance(given, Mapping):
            placed[section] = {
                name: str(folder / file)
                if name in names and isinstance(file, str) and file
                else file
                for name, file in given.items()
            }
    return placed
