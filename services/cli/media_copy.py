"""`darkroom media copy`: all media to another place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from services.cli.console import (
    INTERRUPTED,
    USAGE_ERROR,
    CommandFailed,
    error_fields,
    ignore_closed_stdout,
    load_settings,
    print_json_line,
    print_message,
    printable,
)

if TYPE_CHECKING:
    from common.application.operation.media_copy import CopiedFile, CopyTotals
    from common.media.port import Media
    from common.runtime.clock import Clock
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers

MOST_AT_ONCE: Final = 64
PROGRESS_S: Final = 0.1  # between two lines of progress


def add_parser(actions: Subparsers) -> None:
    copy = actions.add_parser(
        "copy",
        help="copy all media to another place while Darkroom runs, or go on with a copy that was stopped",
    )
    copy.add_argument("source", metavar="FROM", help="where they are: a folder or URL, as in MEDIA_ROOT")
    copy.add_argument("target", metavar="TO", help="where they go, in the same form; a folder is made if it is missing")
    copy.add_argument(
        "--only-missing",
        action="store_true",
        help="do not read what both have (default: compare it by digest, and replace what differs)",
    )
    copy.add_argument(
        "--at-once", metavar="N", type=_at_once, default=8, help=f"copies at a time, 1 to {MOST_AT_ONCE} (default: 8)"
    )
    copy.add_argument(
        "--json",
        action="store_true",
        dest="as_json_lines",
        help="print one line of JSON for each file that was copied or could not be, and one with the totals",
    )


def _at_once(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST_AT_ONCE}")
    return int(text)


def copy_media(arguments: argparse.Namespace) -> int:
    """Run the copy; returns the exit status."""
    import asyncio

    from common.domain.errors import Misconfigured, ServiceError
    from common.runtime.clock import SystemClock

    settings, progress = load_settings(), _Progress(SystemClock(), as_json=arguments.as_json_lines)
    try:
        totals = asyncio.run(_copy(arguments, settings, progress))
    except Misconfigured as error:
        status = 1 if error.code == "media_foreign" else USAGE_ERROR
        raise CommandFailed(f"{error.code}: {error.detail}", status=status, code=error.code) from error
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}; run it again to continue", code=error.code) from error
    except KeyboardInterrupt:
        print_message("stopped by Ctrl-C; run it again to continue")
        return INTERRUPTED
    except BrokenPipeError:
        ignore_closed_stdout()
        return 1
    finally:
        progress.end()
    return _reported(totals, as_json=arguments.as_json_lines)


async def _copy(arguments: argparse.Namespace, settings: Settings, progress: _Progress) -> CopyTotals:
    from common.application.operation.media_copy import MediaCopy

    async with (
        _opened("FROM", arguments.source, settings, read_only=True) as source,
        _opened("TO", arguments.target, settings, read_only=False) as target,
    ):
        copy = MediaCopy(
            source,
            target,
            progress.report,
            progress.clock,
            interval_s=settings.reconcile_interval,
            at_once=arguments.at_once,
            only_missing=arguments.only_missing,
        )
        progress.totals = copy.totals
        return await copy.run()


@asynccontextmanager
async def _opened(side: str, root: str, settings: Settings, *, read_only: bool) -> AsyncIterator[Media]:
    """Raises Misconfigured or Unavailable, with the name of the argument in place of the setting."""
    from common.domain.errors import Misconfigured, Unavailable
    from common.media.connect import open_media

    async with AsyncExitStack() as stack:
        try:
            media = await stack.enter_async_context(open_media(root, settings, read_only=read_only))
        except Unavailable as error:
            raise Unavailable(side, error.detail.removeprefix("media is unavailable: ")) from error
        except Misconfigured as error:
            detail = error.detail.removeprefix("MEDIA_ROOT: ")
            raise Misconfigured(f"{side}: {detail}", code=error.code) from error
        yield media


def _reported(totals: CopyTotals, *, as_json: bool) -> int:
    """Print the totals; returns the exit status."""
    if as_json:
        print_json_line(_fields(totals))
    else:
        replaced = f", {totals.replaced} replaced" if totals.replaced else ""
        gone = f", {totals.gone} deleted meanwhile" if totals.gone else ""
        size = f"{totals.copied} copied{replaced} ({totals.bytes / 1e6:.1f} MB)"
        print(f"{size}, {totals.unchanged} there already{gone}")
        if totals.only_at_target:
            print(f"{totals.only_at_target} are at TO only: {printable(', '.join(totals.examples))}, ...")
    if not totals.seen:
        print_message("FROM holds no pictures")
    if totals.source_in_use:
        print_message("Darkroom still writes to FROM: let all services use TO as MEDIA_ROOT, then run this again")
    if totals.failed:
        print_message(f"{totals.failed} could not be copied, so TO stays marked as an unfinished copy")
    return 1 if totals.failed else 0


def _fields(totals: CopyTotals) -> dict[str, Any]:
    return {
        "copied": totals.copied,
        "replaced": totals.replaced,
        "unchanged": totals.unchanged,
        "failed": totals.failed,
        "deletedMeanwhile": totals.gone,
        "bytes": totals.bytes,
        "onlyAtDestination": totals.only_at_target,
        "examples": totals.examples,
        "sourceInUse": totals.source_in_use,
    }


class _Progress:
    """Lines for each file, and on a terminal one line that is written again and again."""

    def __init__(self, clock: Clock, *, as_json: bool) -> None:
        self.clock = clock
        self.totals: CopyTotals | None = None
        self._as_json = as_json
        self._shows = sys.stderr.isatty()
        self._shown_s = 0.0

    def report(self, file: CopiedFile) -> None:
        if self._as_json:
            print_json_line(_line(file))
        elif file.error is not None:
            self.end()
            print_message(f"{file.key}: {file.error.detail}")
        elif file.replaced:
            self.end()
            print_message(f"{file.key}: differed, and is replaced")
        self.draw()

    def draw(self) -> None:
        now_s = self.clock.monotonic()
        if self.totals is None or not self._shows or now_s - self._shown_s < PROGRESS_S:
            return
        self._shown_s = now_s
        sys.stderr.write(f"\r\x1b[K{self.totals.seen} files, {self.totals.bytes / 1e6:.1f} MB copied")
        sys.stderr.flush()

    def end(self) -> None:
        """Remove the line of progress."""
        if self._shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _line(file: CopiedFile) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": file.key, "size": file.size}
    if file.error is not None:
        return {**fields, **error_fields(CommandFailed(file.error.detail, code=file.error.code))}
    return {**fields, "replaced": file.replaced}
