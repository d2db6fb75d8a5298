"""The `tfstrip` command: arguments in, exit codes out. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tfstrip_core import __version__
from tfstrip_core.errors import NeedsChoice, TfstripError, UsageError, printable
from tfstrip_core.process import guarded, say

FOUND, FAILED = 1, 2


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are the caller's to report."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tfstrip",
        description="Find and remove what only training needs in TensorFlow and Keras model files.",
        epilog="A path that begins with a dash goes behind --.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tfstrip {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("--json", action="store_true", help="print one JSON object (schema tfstrip/1)")
        made.set_defaults(run=run)
        return made

    inspect = add("inspect", _inspect, "Show each model's tensors with their roles, and its findings with their KEYs.")
    inspect.add_argument("paths", nargs="+", metavar="PATH")

    check = add("check", _check, "Exit 1 if a model carries optimizer state, 2 if a file is unreadable or refused.")
    check.add_argument("paths", nargs="+", metavar="PATH")
    check.add_argument("--output-format", choices=("text", "json", "github"), default="text")
    check.add_argument("--require-lfs", action="store_true", help="exit 2 for a Git LFS pointer without its object")

    strip = add("strip", _strip, "Write a model without its training state; proven equal before anything is replaced.")
    strip.add_argument("source", metavar="SOURCE")
    strip.add_argument(
        "-o",
        dest="target",
        metavar="TARGET",
        help="the file to write; for a checkpoint its prefix, for a SavedModel the directory",
    )
    strip.add_argument("--in-place", action="store_true", help="replace SOURCE")
    strip.add_argument("--force", action="store_true", help="overwrite an existing TARGET")
    strip.add_argument(
        "--profile",
        choices=("inference", "serving"),
        default="inference",
        help="what a SavedModel keeps; no difference to Keras files",
    )
    strip.add_argument("--ema", choices=("drop", "apply"), default="", help="what to do with averages of the weights")
    strip.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="KEY",
        help="remove this undecided state too; the KEY is inspect's",
    )
    strip.add_argument(
        "--drop-function",
        action="append",
        default=[],
        metavar="NAME",
        help="remove this function of a SavedModel, and the optimizer state that it reads",
    )
    strip.add_argument(
        "--output-names",
        action="append",
        default=[],
        metavar="NAME[,NAME...]",
        help="what a graph (.pb, .pbtxt, .meta) is kept for: nodes, or their outputs as NAME:0",
    )
    strip.add_argument("--drop-training-config", action="store_true", help="remove the arguments of compile() too")

    verify = add("verify", _verify, "Exit 1 unless STRIPPED has every byte of ORIGINAL that inference needs.")
    verify.add_argument("original", metavar="ORIGINAL")
    verify.add_argument("stripped", metavar="STRIPPED")
    verify.add_argument("--ema", choices=("apply",), default="", help="weights must equal ORIGINAL's averages")
    verify.add_argument(
        "--also", action="append", default=[], metavar="KEY", help="this may be gone too; the KEY is inspect's"
    )

    verify.add_argument("--outputs", action="store_true", help="run both too, on the same inputs (needs TensorFlow)")
    verify.add_argument("--inputs", default="", metavar="FILE.npz", help="run them on these arrays, by input name")
    verify.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help="has the code of custom classes"
    )

    export = add("export", _export, "Write a model in another form; run beside the original first (needs TensorFlow).")
    export.add_argument("source", metavar="SOURCE")
    export.add_argument("-o", dest="target", metavar="TARGET", required=True, help="the directory or .tflite to write")
    export.add_argument("--to", choices=("saved_model", "frozen", "tflite"), required=True, help="the form to write")
    export.add_argument("--force", action="store_true", help="overwrite an existing TARGET of the same form")
    export.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help="a module with its own classes"
    )
    export.add_argument("--ema", choices=("drop", "apply"), default="", help="what to do with averages of the weights")
    export.add_argument(
        "--also", action="append", default=[], metavar="KEY", help="leave this out too; the KEY is inspect's"
    )

    plan = add("plan", _plan, "Divide models among the jobs of a workflow's matrix; exit 2 for what they would refuse.")
    plan.add_argument("paths", nargs="+", metavar="PATH")
    plan.add_argument("--jobs", type=int, metavar="N", help="at most so many; one a model by default")
    plan.add_argument("--ema", choices=("drop", "apply"), default="", help="as the jobs will be told")
    plan.add_argument("--also", action="append", default=[], metavar="KEY", help="as the jobs will be told")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 for done, 1 for found or not equal, 2 for could not."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(words))


def _run(words: list[str]) -> int:
    try:
        arguments = _parser().parse_args(words)
    except UsageError as error:
        say(str(error))
        paths, json = _named(words)
        if json:
            from tfstrip_core.reports import document

            models = [document.model(_known(path)) | {"message": str(error)} for path in paths]
            _print_document(words[0], models, message=str(error))
        return FAILED
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def _named(words: Sequence[str]) -> tuple[list[str], bool]:
    """Return the paths in words that do not parse, as well as can be told, and whether they ask for JSON."""
    paths: list[str] = []
    json, rest = False, iter(words[1:])
    for word in rest:
        if word == "--":
            paths += rest
        elif word in (
            "-o",
            "--ema",
            "--also",
            "--profile",
            "--drop-function",
            "--output-format",
            "--jobs",
            "--output-names",
            "--to",
            "--inputs",
            "--import",
        ):
            json = (next(rest, "") == "json" and word == "--output-format") or json
        elif word.startswith("-") and word != "-":
            json = json or word in ("--json", "--output-format=json")
        else:
            paths.append(word)
    return paths, json


def _inspect(arguments: argparse.Namespace) -> int:
    from tfstrip_core.reports import document, text
    from tfstrip_core.verbs.weights_digest import survey

    models = list(survey(arguments.paths))
    inventories = [inventory for inventory, _ in models]
    if arguments.json:
        _print_document("inspect", (document.inspected(inventory, digest) for inventory, digest in models))
    else:
        for inventory, digest in models:
            for note in text.notes(inventory):
                say(note)
            if inventory.verdict in ("unreadable", "refused"):
                say(text.problem(inventory))
                continue
            for line in text.inspect_lines(inventory, digest):
                print(line)
    return FAILED if any(inventory.verdict in ("unreadable", "refused") for inventory in inventories) else 0


def _check(arguments: argparse.Namespace) -> int:
    from tfstrip_core.reports import text
    from tfstrip_core.verbs.check import check

    result = check(arguments.paths, require_lfs=arguments.require_lfs)
    for inventory in result.inventories:
        if inventory.message and inventory.verdict != "not-a-model":
            say(text.problem(inventory))
        for note in text.notes(inventory):
            say(note)
    if arguments.json or arguments.output_format == "json":
        from tfstrip_core.reports import document

        _print_document("check", map(document.model, result.inventories))
        return result.exit_code
    if arguments.output_format == "github":
        from tfstrip_core.reports import github

        lines = github.lines(result.inventories, pointers_fail=arguments.require_lfs)
    else:
        lines = text.check_lines(result.inventories, arguments.paths)
    for line in lines:
        print(line)
    return result.exit_code


def _strip(arguments: argparse.Namespace) -> int:
    from tfstrip_core.replace import git_has
    from tfstrip_core.reports import document, text
    from tfstrip_core.verbs.strip import replaced, settled, strip

    source = arguments.source
    try:
        old = _replaced(source) if arguments.in_place else []
        in_git = [file for file in old if git_has(file)]
        result = strip(
            source,
            arguments.target,
            in_place=arguments.in_place,
            force=arguments.force,
            profile=arguments.profile,
            ema=arguments.ema,
            also=arguments.also,
            drop_training_config=arguments.drop_training_config,
            drop_functions=arguments.drop_function,
            output_names=[name for names in arguments.output_names for name in names.split(",") if name],
        )
    except TfstripError as error:
        say(f"{printable(source)}: {error}")
        if arguments.json:
            known = settled(source, arguments.also) if isinstance(error, NeedsChoice) else _known(source)
            entry = document.not_stripped(known, source, arguments.target or source, str(error))
            _print_document("strip", [entry])
        return FAILED
    if arguments.json:
        from tfstrip_core.verbs.weights_digest import weights_digest

        _print_document("strip", [document.stripped(result, weights_digest(result.target))])
    else:
        for line in text.strip_lines(result):
            print(line, flush=True)
    for line in text.strip_notices(result):
        say(line)
    if result.changed and arguments.in_place:
        for line in text.replaced(old, in_git, replaced(result.target)):
            say(f"{printable(source)}: {line}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from tfstrip_core.reports import document, text
    from tfstrip_core.verbs.export import export
    from tfstrip_core.verbs.strip import settled

    source, target, to = arguments.source, arguments.target, arguments.to
    try:
        result = export(
            source,
            target,
            to,
            imports=arguments.imports,
            force=arguments.force,
            ema=arguments.ema,
            also=arguments.also,
        )
    except TfstripError as error:
        say(f"{printable(source)}: {error}")
        if arguments.json:
            known = settled(source, arguments.also) if isinstance(error, NeedsChoice) else _known(source)
            _print_document("export", [document.not_exported(known, source, target, to, str(error))])
        return FAILED
    if arguments.json:
        _print_document("export", [document.exported(result)])
    else:
        for line in text.export_lines(result):
            print(line, flush=True)
    for line in text.export_notices(result):
        say(line)
    return 0


def _replaced(source: str) -> list[str]:
    """Return the files that a strip in place of the model replaces, once what an interrupted one began is done."""
    from tfstrip_core.verbs.strip import recover, replaced

    recover(source)
    return replaced(source)


def _verify(arguments: argparse.Namespace) -> int:
    from tfstrip_core.reports import document, text
    from tfstrip_core.verbs.verify import verify

    paths = (arguments.original, arguments.stripped)
    try:
        result = verify(
            *paths,
            ema=arguments.ema,
            also=arguments.also,
            outputs=arguments.outputs,
            inputs=arguments.inputs,
            imports=arguments.imports,
        )
    except TfstripError as error:
        known = [_known(path) for path in paths]
        bad = next((inventory for inventory in known if inventory.message), known[0])
        say(f"{printable(error.path or bad.path)}: {error}")
        if arguments.json:
            no = {"equal": False, "differences": []}
            _print_document("verify", [document.model(one) | no for one in known], message=str(error), **no)
        return FAILED
    for note in result.notes:
        say(note)
    if arguments.json:
        _print_document("verify", document.compared(result), **document.verdict(result))
    else:
        for line in text.verify_lines(result):
            print(line)
    if result.undecided and result.outputs:
        say(f"{printable(arguments.original)}: nothing could be run: {printable(result.outputs.why_not)}")
        return FAILED
    return 0 if result.equal else FOUND


def _plan(arguments: argparse.Namespace) -> int:
    from tfstrip_core.release import artifacts, matrix
    from tfstrip_core.reports import document, text
    from tfstrip_core.verbs.inspect import survey

    inventories = list(survey(dict.fromkeys(arguments.paths)))
    models = [document.model(inventory) for inventory in inventories]
    try:
        jobs = artifacts.plan(inventories, ema=arguments.ema, also=arguments.also)
        bins = matrix.divide(jobs, arguments.jobs)
    except TfstripError as error:
        say(str(error))
        if arguments.json:
            _print_document("plan", models, message=str(error), matrix=matrix.document([]))
        return FAILED
    if arguments.json:
        _print_document("plan", models, matrix=matrix.document(bins))
    else:
        for one in bins:
            for line in text.share(one.name, one.models):
                print(line)
    return 0


def _known(path: str) -> Any:
    """Return what can be said of a path that could not be stripped or compared."""
    from tfstrip_core.discover import look
    from tfstrip_core.verbs.inspect import examine

    return examine(look(path))


def _print_document(command: str, models: Any, **more: Any) -> None:
    from tfstrip_core.reports import document

    print(document.dumps(command, models, **more))
