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
import inspect
import json
import logging
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError

from adaptive.errors import AdaptiveError, BundleError, ConfigError, InputError
from adaptive.events import Listener

REFUSED_ROWS, WRONG, REFUSED_BUNDLE, INTERRUPTED = 1, 2, 3, 130


@dataclass(frozen=True, slots=True)
class Session:
    """The global switches."""

    json: bool = False
    quiet: bool = False

    @property
    def bars(self) -> bool:
        """Whether progress bars are wanted: not in a log file, where each step is a new line."""
        return not self.quiet and sys.stderr.isatty()

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Who is told how far long work is: the log, and a bar where one is wanted."""
        from adaptive.progress import listening

        with listening(quiet=not self.bars) as tell:
            yield tell

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
    """Strict JSON on one line; NaN and infinities become null, dates and the like text.

    Labels of any script stand as they are, where the output's encoding has their letters.
    """
    told = _plain(value)
    text = json.dumps(told, allow_nan=False, default=str, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(told, allow_nan=False, default=str)
    return text


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
        # as text, since names of groups may look like markup
        result.add_row(*(Text(_cell(row.get(name), name in percent)) for name in names))
    return result


def _cell(value: Any, share: bool) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{100 * value:.2f} %" if share else f"{value:,.4g}"
    return str(value)


Json = Annotated[bool, typer.Option("--json", help="Results and errors as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the global switches behind its name, too.

    Its expected errors become a message on stderr and an exit code, and the library's log is shown.
    """

    @functools.wraps(command)
    def run(context: typer.Context, *, json: bool, quiet: bool, **given: Any) -> None:
        before = context.obj or Session()
        context.obj = Session(json or before.json, quiet or before.quiet)
        with _exit_codes(context.obj), _log(context.obj), _terminable():
            command(context=context, **given)

    shown = inspect.signature(command, eval_str=True)
    switches = {"json": Json, "quiet": Quiet}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in switches.items()
    ]
    run.__signature__ = shown.replace(parameters=[*shown.parameters.values(), *more])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **switches}
    return run


@contextmanager
def _log(session: Session) -> Iterator[None]:
    """Shows the library's log on stderr, what is told again and again once."""
    if session.quiet:
        yield
        return
    logger, handler = logging.getLogger("adaptive"), logging.StreamHandler(sys.stderr)
    told: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(told)
        told.add(record.getMessage())
        return len(told) > before

    handler.addFilter(is_new)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


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
    except SafetensorError as error:  # how it tells a full disk
        _report(session, f"a file of tensors cannot be written or read: {error}")
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
    told = str(error)
    if isinstance(error, OSError) and error.strerror:
        told = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if session.json:
        faults = list(error.faults) if isinstance(error, ConfigError) else []
        sys.stderr.write(dumps({"error": told, "faults": faults}) + "\n")
    else:
        sys.stderr.write(f"adaptive: {told}\n")
