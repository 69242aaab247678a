"""`syncbridge`: the command groups joined, and the one place where an error becomes a sentence and an exit code.

Exit codes: 0 fine, 1 findings, differences or an operational error, 2 usage or configuration.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from syncbridge import __version__
from syncbridge.errors import SyncbridgeError

#: Click's root of usage errors. Newer typers carry a click of their own: this finds the one in use.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]
#: Ctrl-C, as shells count it: 128 + SIGINT.
INTERRUPTED = 130


class _Group(TyperGroup):
    """Turns what a command raises into one sentence, a hint and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, _ClickException, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except SyncbridgeError as error:
            _explain(ctx, str(error), error.hint)
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            _explain(
                ctx,
                f"unexpected {type(error).__name__}",
                "this is a bug of syncbridge: run the command again with --debug and report what it prints",
            )
            raise typer.Exit(1) from None


def _explain(ctx: Any, message: str, hint: str) -> None:
    if _debug:
        traceback.print_exc()
    name = ctx.command_path.partition(" ")[0]
    print(f"{name}: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


app = typer.Typer(
    cls=_Group,
    name="syncbridge",
    help="Keeps Redis a faithful mirror of chosen MySQL and MariaDB tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        print(f"syncbridge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks with errors (may stand anywhere).")] = False,
) -> None:
    """Options before the command."""


#: Command -> its module. Only the module of the command that is run is imported: each costs a tenth of a second.
_MODULES = {
    "init": "init",
    "check": "check",
    "run": "run",
    "capture": "run",
    "server": "server",
    "worker": "run",
    "snapshot": "snapshot",
    "verify": "verify",
    "explain": "explain",
    "status": "status",
    "dead-letter": "dead_letter",
    "queue": "queue",
    "triggers": "triggers",
    "udf": "udf",
    "demo": "demo",
}
_registered: set[str] = set()


def register(command: str = "") -> None:
    """Make a command known; all of them where it is none, for help and for the error."""
    wanted = {_MODULES[command]} if command in _MODULES else dict.fromkeys(_MODULES.values())
    for name in [name for name in wanted if name not in _registered]:
        _registered.add(name)
        import_module(f"syncbridge.commands.{name}").register(app)


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    global _debug
    _debug = "--debug" in sys.argv[1:] or bool(os.environ.get("SYNCBRIDGE_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    register(arguments[0] if arguments else "")
    app(args=arguments, prog_name="syncbridge")
