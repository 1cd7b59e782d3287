"""The cluster that the server runs on: joined or started, and left."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

# Read where Ray is imported. Of a cluster that is started here: its processes know each other as
# 127.0.0.1 and listen nowhere else, on every system; and they are not nice, as Ray's are, since
# whatever else runs on the machine would then keep requests waiting.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
if "RAY_ADDRESS" not in os.environ:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from adaptive.errors import BundleError
from adaptive.serve.logs import configure, told
from adaptive.serve.ray import QUIET, STARTS, build
from adaptive.serve.run import listen
from adaptive.serve.settings import Settings

NAME = "adaptive"  # of the application on the cluster
OBJECT_STORE = 256 * 1024 * 1024  # bytes of a cluster that is started here: bodies pass through it


def run(bundle: str, settings: Settings, options: dict[str, Any]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    On the cluster that RAY_ADDRESS names; without it on one that is started here, for this machine
    alone.

    Raises:
        BundleError: no replica could start, such as where golden inputs failed.
        ConfigError: the address is taken, or the settings do not fit several replicas.
    """
    handler = configure()
    stop = threading.Event()
    application = build(_absolute(bundle), settings, options)
    port = settings.port if "RAY_ADDRESS" in os.environ else _free(settings.host, settings.port)
    try:
        start_cluster(log_to_driver=settings.log)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        start(application, settings, port)
        told("listening", host=settings.host, port=port)
        told("ready", bundle=bundle)
        stop.wait()
    finally:
        stop_all()
        told("stopped")
        handler.close()


def start_cluster(*, log_to_driver: bool, cpus: int | None = None) -> None:
    """Join the cluster that RAY_ADDRESS names, else start one that this machine alone reaches.

    Its processes tell each other a token besides, which Ray keeps in the user's home.

    Args:
        cpus: that the new cluster deals out; None: those of the machine.
    """
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=log_to_driver)
        return
    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        log_to_driver=log_to_driver,
        logging_level=logging.WARNING,
    )


def start(application: Any, settings: Settings, port: int) -> None:
    """Run an application of `build` on the cluster, and wait until it is ready.

    Raises:
        BundleError: no replica could start.
    """
    tls = settings.tls
    http = HTTPOptions(
        host=settings.host,
        port=port,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_ca_certs=None if tls is None else tls.authorities,
    )
    serve.start(http_options=http, logging_config=QUIET)
    try:
        serve.run(application, name=NAME, logging_config=QUIET)
    except RuntimeError:  # its message quotes the replica's traceback, which Ray has logged
        raise BundleError(
            f"no replica could start in {STARTS} tries; the replicas' logs say why"
        ) from None


def stop_all() -> None:
    """Finish what is in flight, and leave the cluster; one that was started here ends."""
    if not ray.is_initialized():
        return
    serve.delete(NAME)
    if "RAY_ADDRESS" not in os.environ:
        serve.shutdown()
    ray.shutdown()


def _absolute(bundle: str) -> str:
    """A folder as other processes find it; hub ids as they are."""
    return str(Path(bundle).resolve()) if Path(bundle).exists() else bundle


def _free(host: str, port: int) -> int:
    """The port, of which 0 takes a free one.

    Raises:
        ConfigError: it is taken.
    """
    with closing(listen(host, port)) as found:
        own: int = found.getsockname()[1]
    return own
