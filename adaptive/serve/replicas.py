"""What several replicas of a server make together: settings, metrics, how many there should be.

Nothing here knows Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from adaptive.errors import ConfigError
from adaptive.serve.relay import Reply, Sent, seconds_of
from adaptive.serve.settings import Key, Settings

METRICS = "/metrics"
RELOAD = "/admin/reload"
EVERY = (METRICS, RELOAD)  # paths that are asked of every replica
RELOAD_S = 600.0  # for every replica to open its bundle anew and try it, beside what it answers


def seconds_for(sent: Sent, settings: Settings) -> float:
    """How long a request may take; `deadline_ms` is for answers about texts alone."""
    most = RELOAD_S if sent.path == RELOAD else settings.ray.timeout_s
    own = None if sent.path in EVERY else settings.deadline_ms
    return seconds_of(sent.headers, most if own is None else min(most, own / 1000.0), most)


def of_replicas(settings: Settings) -> Settings:
    """The settings of one of several replicas, so that all together keep what is promised.

    A replica counts for itself. So it has an equal part of each key's budgets, and of the chance
    of a false alarm.

    Raises:
        ConfigError: something in the settings works in one process alone.
    """
    count = settings.ray.max_replicas
    faults = []
    if settings.canary is not None:
        faults.append("canary: works in one process alone; serve the other bundle beside this one")
    if settings.feedback.folder is not None:
        faults.append("feedback.folder: works in one process alone; without it labels are tested")
    for key in settings.keys:
        if key.requests_a_minute is not None and key.requests_a_minute < count:
            faults.append(
                f"keys: {key.name}: {key.requests_a_minute} requests a minute cannot be dealt out "
                f"to ray.max_replicas = {count}"
            )
    if settings.ray.queued_ms >= settings.limits.queued_ms:
        faults.append(
            f"ray.queued_ms: {settings.ray.queued_ms:g} is never reached, since a replica takes in "
            f"no more than limits.queued_ms = {settings.limits.queued_ms:g}"
        )
    if faults:
        raise ConfigError("serve settings do not fit several replicas", faults)
    audit = settings.audit.model_copy(update={"alpha": settings.audit.alpha / count})
    keys = tuple(_part_of(key, count) for key in settings.keys)
    return settings.model_copy(update={"audit": audit, "keys": keys})


def _part_of(key: Key, count: int) -> Key:
    requests, cost = key.requests_a_minute, key.cost_a_minute
    return key.model_copy(
        update={
            "requests_a_minute": None if requests is None else requests // count,
            "cost_a_minute": None if cost is None else cost / count,
        }
    )


def together(path: str, replies: Mapping[str, Reply]) -> Reply:
    """What every replica answered, by their names, as one: a refusal if there is any.

    Args:
        path: one of `EVERY`.
    """
    worst = max(replies.values(), key=lambda reply: reply.status)
    if path != METRICS or worst.status != 200:
        return worst
    body = merged({name: reply.body for name, reply in replies.items()})
    return worst._replace(
        body=body, headers=tuple(h for h in worst.headers if h[0] != b"content-length")
    )


def merged(pages: Mapping[str, bytes]) -> bytes:
    """Prometheus pages of replicas as one, in which each figure has a label `replica`."""
    families: dict[str, Metric] = {}
    for name, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page.decode()):
            known = Metric(family.name, family.documentation, family.type)
            own = families.setdefault(family.name, known)
            for sample in family.samples:
                labels = {**sample.labels, "replica": name}
                own.samples.append(sample._replace(labels=labels))
    return generate_latest(_Families(families.values()))


class _Families:
    """What `generate_latest` takes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families
