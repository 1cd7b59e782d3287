"""What every command shares: where output goes, and which exit code an error becomes.

Results go to stdout, everything else to stderr. Exit codes:

    0    done
    1    some rows were refused, the others answered
    2    wrong usage, configuration or data, or work that could not be done
    3    the bundle was refused
    130  interrupted, by Ctrl-C or SIGTERM
"""

from __future__ import annotations

import functools
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from adaptive.errors import AdaptiveError, BundleError, ConfigError, InputError

REFUSED_ROWS, WRONG, REFUSED_BUNDLE, INTERRUPTED = 1, 2, 3, 130
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Session:
    """The global switches."""

    json: bool = False
    quiet: bool = False

    @property
    def bars(self) -> bool:
        """Whether progress bars are wanted: not in a log file, where each step is a new line."""
        return not self.quiet and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Tell a person how it goes, unless they asked for silence."""
        if not self.quiet:
            Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

    def emit(self, value: Any, show: Callable[[Console], None]) -> None:
        """The result: one JSON value with --json, else whatever `show` prints."""
        if self.json:
            sys.stdout.write(dumps(value) + "\n")
        else:
            show(Console())


def dumps(value: Any) -> str:
    """Strict JSON on one line; NaN and infinities become null."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(
    title: str | None, rows: Sequence[Mapping[str, Any]], percent: Sequence[str] = ()
) -> Table:
    """Rows of figures as a table; the first column is text, columns in `percent` are shares."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    result = Table(title=title, title_justify="left", header_style="bold")
    for index, name in enumerate(names):
        result.add_column(name.replace("_", " "), justify="right" if index else "left")
    for row in rows:
        result.add_row(*(_cell(row.get(name), name in percent) for name in names))
    return result


def _cell(value: Any, share: bool) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{100 * value:.2f} %" if share else f"{value:,.4g}"
    return str(value)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose expected errors become a message on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # Typer passes every argument by name.
        session = getattr(kwargs.get("context"), "obj", None) or Session()
        with _exit_codes(session), _terminable():
            return command(*args, **kwargs)

    return run


@contextmanager
def _exit_codes(session: Session) -> Iterator[None]:
    try:
        yield
    except BundleError as error:
        _report(session, error)
        raise typer.Exit(REFUSED_BUNDLE) from None
    except InputError as error:
        _report(session, error)
        raise typer.Exit(REFUSED_ROWS) from None
    except BrokenPipeError:
        raise
    except (AdaptiveError, OSError) as error:
        _report(session, error)
        raise typer.Exit(WRONG) from None
    except KeyboardInterrupt:
        _report(session, "interrupted")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which schedulers and containers send, ends a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _report(session: Session, error: BaseException | str) -> None:
    if session.json:
        faults = list(error.faults) if isinstance(error, ConfigError) else []
        sys.stderr.write(dumps({"error": str(error), "faults": faults}) + "\n")
    else:
        sys.stderr.write(f"adaptive: {error}\n")
