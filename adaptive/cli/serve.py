"""`adaptive serve`: settings, a new key, and the server."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.cli.session import Session
from adaptive.errors import ConfigError

if TYPE_CHECKING:
    from adaptive.serve.service import Opener


def need_extra(*, on_ray: bool = False) -> None:
    """Refuse where the extra is not installed.

    Raises:
        ConfigError: it is not.
    """
    names = ("fastapi", "uvicorn", "prometheus_client", *(("ray",) if on_ray else ()))
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        extra = "serve,ray" if on_ray else "serve"
        raise ConfigError(
            f"serving needs {', '.join(missing)}: pip install 'adaptive-cascade[{extra}]'"
        )


def make_key(name: str, session: Session) -> None:
    """Print a new key, which is told once, and the lines that the settings need."""
    need_extra()
    from adaptive.serve.keys import new_key

    key, digest = new_key()
    lines = f"keys:\n  - name: {name}\n    sha256: {digest}\n    scopes: [predict]"
    session.emit(
        {"name": name, "key": key, "sha256": digest},
        lambda console: console.print(
            f"{key}\n\nThis is the key; it is not kept anywhere. In serve.yaml:\n\n{lines}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        ),
    )


def serve(
    bundle: str, config: Path | None, overrides: dict[str, Any], options: dict[str, Any]
) -> None:
    """Serve a bundle until the process is told to stop.

    Raises:
        ConfigError: the settings are wrong, or the extra is missing.
        BundleError: the bundle is not as it should be.
    """
    need_extra()
    from adaptive.serve.app import create_app
    from adaptive.serve.deployment import Deployment
    from adaptive.serve.run import run
    from adaptive.serve.settings import load_settings

    settings = load_settings(config, overrides)

    def opener(source: str) -> Opener:
        return lambda deliver: Deployment.open(source, settings, deliver, **options)

    canary = None if settings.canary is None else opener(settings.canary.bundle)
    run(create_app(settings, opener(bundle), canary), settings)


def serve_on_ray(
    bundle: str, config: Path | None, overrides: dict[str, Any], options: dict[str, Any]
) -> None:
    """Serve a bundle by replicas on a Ray cluster until the process is told to stop.

    Raises:
        ConfigError: the settings are wrong, or an extra is missing.
        BundleError: the bundle is not as it should be.
    """
    need_extra(on_ray=True)
    from adaptive.cli.labelled import local_folder
    from adaptive.serve.cluster import run
    from adaptive.serve.settings import load_settings

    settings = load_settings(config, overrides)
    local_folder(bundle)  # refused here, and not by each replica
    run(bundle, settings, options)
