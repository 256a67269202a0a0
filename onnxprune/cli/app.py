"""The commands, each loaded when it is used; and how an error leaves the process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from onnxprune.cli.help import SETTINGS, Command, section
from onnxprune.errors import OnnxPruneError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# name -> what `onnxprune --help` says of it; the command is the function of that name (- as _) in the module so named
COMMANDS = {
    "inspect": "Show what can be removed from a model, and what cannot and why.",
    "plan": "Choose what to remove under a budget, and write the plan to a file.",
    "apply": "Carry out a plan on the model that it was made for.",
    "prune": "Choose what to remove under a budget, remove it, and verify the result.",
    "validate": "Compare a pruned model with the dense one on your data.",
    "sensitivity": "Measure how the metric suffers when one group alone loses units.",
    "init": "Write a commented recipe for a model, and a schema for editors.",
    "run": "Take the steps of a recipe, and go on where a run was cut short.",
    "search": "Search for settings of a recipe that give the fastest or smallest model.",
    "report": "Write what a run found as one page that needs no network.",
    "sparsify": "Set weights to zero in a pattern: 2:4 and other N:M, blocks, or single ones.",
    "check-sparsity": "Tell which weights follow a sparsity pattern, and which TensorRT could use.",
    "quantize": "Quantise a model to INT8 with Q/DQ nodes, in which zeros stay zeros.",
    "cast": "Convert a model to float16 or bfloat16, but for what needs float32.",
    "engine": "Build a TensorRT engine, or write the commands for where TensorRT is.",
    "densify": "Turn sparse initializers back into dense ones.",
    "recover": "Train a pruned model: labels, its dense model as teacher, or both.",
    "doctor": "Show versions, which providers really load, and what is wrong.",
}

# What Typer raises for a wrong command line, from Click or from its own copy of Click: it exports a subclass only.
# Contexts and formatters below come from there too, and have no name that is the same in all versions: Any.
_UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """The table above as a group: a command's module is imported when that command runs or shows its help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        from onnxprune.cli.composing import composed
        from onnxprune.cli.threads import in_threads

        module = cmd_name.replace("-", "_")
        function = getattr(import_module(f"onnxprune.cli.{module}"), module)
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(cmd_name, cls=Command, context_settings=SETTINGS)(in_threads(composed(function)))
        return typer.main.get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Typer's, with the table as what a misspelled command is compared with."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}, there are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands, then options."""
        section(formatter, "Commands", list(COMMANDS.items()))
        records = [param.get_help_record(ctx) for param in self.get_params(ctx)]
        section(formatter, "Options", [record for record in records if record is not None])


app = typer.Typer(
    cls=Commands,
    help="Prune trained ONNX models: smaller and faster files, without the training code.",
    epilog="`onnxprune COMMAND --help` shows a command's options.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if show:
        from onnxprune import __version__

        typer.echo(f"onnxprune {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (the process's own if None) and give the exit code. Raises nothing.

    What goes wrong is one line on standard error, and with `--json` one object on standard output.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="onnxprune", standalone_mode=False)
    except OnnxPruneError as error:
        return _fail(given, error.message, error.remedy, error.exit_code)
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else "onnxprune"
        return _fail(given, error.format_message(), f"`{path} --help` shows what there is", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except Exception as error:
        # The last resort: a bug is one line too, behind which -vv shows the traceback.
        import logging

        logging.getLogger(__name__).debug("what went wrong:", exc_info=True)
        return _fail(
            given, f"internal error: {type(error).__name__}: {error}", "Please report it, with what -vv shows", 1
        )
    if code == INTERRUPTED:
        return _fail(given, "interrupted", "Unfinished files are removed", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail(given: Sequence[str], message: str, remedy: str | None, code: int) -> int:
    if "--json" in given:
        import json

        print(json.dumps({"error": message, "remedy": remedy, "exit_code": code}))
    print(f"onnxprune: {OnnxPruneError(message, remedy=remedy)}", file=sys.stderr)
    return code
