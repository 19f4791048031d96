"""How a command ends: an exit code, and where something is wrong one line that says what. No torch here."""

from __future__ import annotations

import difflib
import errno
import functools
import os
import re
import shlex
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from tightbound.cli.output import unsaid
from tightbound.files import FULL, MAKE_ROOM, NO_ROOM, chain_of, why
from tightbound.paths import refusal_of, require_utf8
from tightbound.runs import recipe as recipes
from tightbound.runs.migrate import RECIPE, RECORD
from tightbound.runs.pieces import FORMER

MEANT = {  # what people call a verb, beside its name
    "help": "--help", "h": "--help", "v": "version", "fit": "train", "run": "train", "start": "train",
    "resume": "train --resume RUN", "continue": "train --resume RUN", "eval": "evaluate", "test": "evaluate",
    "score": "evaluate", "nll": "evaluate", "elbo": "evaluate", "generate": "sample", "draw": "sample",
    "encode": "embed", "decode": "reconstruct", "plot": "report", "show": "report", "list": "recipes",
    "ls": "recipes", "init": "recipes", "models": "recipes", "config": "recipes", "dataset": "data",
    "datasets": "data", "download": "data mnist", "fetch": "data mnist", "describe": "data", "summary": "data",
    "diff": "compare", "tune": "sweep", "search": "sweep", "tutorial": "demo", "example": "demo",
}  # fmt: skip
DEVICES = {"gpu": "cuda", "cuda": "cuda", "cpu": "cpu", "mps": "mps"}  # as options that other programs have
COUNTS = ("count", "observations", "samples")  # what a number by no other name counts, the likeliest first
OTHERS = {  # what people and other programs call an option
    **dict.fromkeys(("n", "num", "number", "num-samples", "n-samples", "samples"), COUNTS),
    **dict.fromkeys(("o", "output", "folder", "dir"), ("out",)),
    **dict.fromkeys(("dataset", "input", "source"), ("data",)),
}
TYPES = {int: "a whole number", float: "a number", Path: "a path", str: "a text"}
INTERRUPTED = 130
SHORT_OF_MEMORY = "out of memory|can't allocate memory|not enough memory|Unable to allocate"
REQUEST = (
    ValueError, TypeError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError,
    ModuleNotFoundError,  # of a piece that an extra installs
)  # fmt: skip


def exit_code(app: App, argv: Sequence[str]) -> int:
    """Run a command. ``--debug`` anywhere among its words shows tracebacks.

    Args:
        app: knows the commands.
        argv: the words of the command.

    Returns:
        0 good, 1 the run failed, 2 the request was wrong.

    Example:
        >>> app = App()
        >>> @app.command
        ... def hello() -> None:
        ...     print("hello")
        >>> exit_code(app, ["hello"])
        hello
        0
    """
    words = [word for word in argv if word != "--debug"]

    def call() -> object:
        require_utf8(*words)
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")

    return guarded(call, debug="--debug" in argv)


def guarded(call: Callable[[], object], *, debug: bool = False, tell: Callable[[str], object] | None = None) -> int:
    """Call something and give the exit code; what goes wrong becomes one line.

    Args:
        call: what to call; gives an exit code, or None.
        debug: whether the traceback is shown as well.
        tell: takes the line; it goes to standard error where this is None.

    Returns:
        The exit code, as of :func:`exit_code`.

    Example:
        >>> guarded(lambda: int("x"), tell=print)
        tightbound: invalid literal for int() with base 10: 'x'
        2
    """
    say = functools.partial(_say, debug=debug, tell=tell or functools.partial(print, file=sys.stderr))
    code = _code(call, say)
    try:
        sys.stdout.flush()
        failed = unsaid()
    except OSError as error:  # the interpreter would complain of it once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failed = error
    if code == 0 and failed is not None and not isinstance(failed, BrokenPipeError):  # whose reader has seen enough
        return say(
            f"Expected standard output to take the result; got {failed.strerror or failed}. Send it elsewhere, or make "
            "room.",
            1,
        )
    return code


def _code(call: Callable[[], object], say: Callable[[str, int], int]) -> int:
    try:
        code = call()
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return say(worded(error), 2)
    except REQUEST as error:
        return say(_denied(error) or str(error), 2)
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return say("Stopped.", 1)
    except SystemExit as left:  # the parser's way out of Ctrl-C, and rich's where the reader has seen enough of --help
        return say("Stopped.", 1) if left.code == INTERRUPTED else 0
    except Exception as error:
        refused = refusal_of(error) or _denied(error)
        return say(refused, 2) if refused else say(failure(error), 1)


def failure(error: BaseException) -> str:
    """What has failed, in words: a full disk and a full memory are named as such, whoever says so.

    Args:
        error: no fault of the request's.

    Example:
        >>> failure(MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000, 1000, 1000)"))
        'Expected enough memory; got too little, with 7.45 GiB asked for in one piece. Take smaller sizes, ...'
    """
    said = " ".join(str(error).split())
    if type(error) is ArithmeticError or type(error).__module__.startswith("tightbound"):
        return said
    if full := next((each for each in chain_of(error) if isinstance(each, OSError) and each.errno in FULL), None):
        return f"{NO_ROOM}{f' for {full.filename}' if full.filename else ''}. {MAKE_ROOM}"
    if (isinstance(error, MemoryError) and not said) or re.search(SHORT_OF_MEMORY, said):
        asked = re.search(r"[Aa]llocate ([\d.]+ \w+)", said)
        with_it = f", with {_in_gib(asked[1])} asked for in one piece" if asked else ""
        return (
            f"Expected enough memory; got too little{with_it}. Take smaller sizes, a smaller batch, fewer samples or a "
            "larger machine."
        )
    if isinstance(error, OverflowError):
        return (
            f"Expected numbers that a machine can count with; got one that is too large ({said}). Take a smaller one."
        )
    return f"{type(error).__name__}: {said}"


def _denied(error: BaseException) -> str:
    """What a system that does not let us write or read says, in words; empty for all else."""
    for each in chain_of(error):
        if isinstance(each, OSError) and each.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and each.filename:
            path = Path(os.fsdecode(each.filename))
            if each.errno == errno.EROFS or path.suffix == ".tmp":  # as files are called while they are written
                return (
                    f"Expected a folder that can be written to; got {path.parent}: {why(each)}. Copy the run to a "
                    "folder of your own, or name another place with --out where the verb takes one."
                )
            return f"Expected to be allowed to open {path}; got: {why(each)}. Ask whoever owns it, or take another."
    return ""


def _in_gib(amount: str) -> str:
    number, unit = amount.split()
    return f"{int(number) / 2**30:.3g} GiB" if unit == "bytes" and number.isdecimal() else amount


def _say(message: str, code: int, *, debug: bool, tell: Callable[[str], object]) -> int:
    """One line to the person, the traceback only where it was asked for."""
    if debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    tell(f"tightbound: {' '.join(message.split())}")
    return code


def worded(error: CycloptsError) -> str:
    """What is wrong with a command line: what was expected, what was there, what to write instead.

    Args:
        error: as the parser gives it.
    """
    said = " ".join(str(error).split())
    close = re.search(r"Did you mean [^?]+\?", said)
    hint = f" {close[0]}" if close else ""
    verb = " ".join(("tightbound", *(error.command_chain or ())))
    more = f" '{verb} --help' says more."
    tokens = " ".join(error.unused_tokens or ())
    if isinstance(error, UnknownCommandError):
        word = tokens.split(" ")[0]
        meant = "" if hint else _verb_for(word, list(error.app or ()))
        return f"Expected a verb; got {word!r}.{hint or (f' Did you mean {meant}?' if meant else more)}"
    if isinstance(error, UnknownOptionError):
        return (
            f"Expected an option of '{verb}'; got {error.token.keyword or error.token.value!r}.{_near(error) or more}"
        )
    if isinstance(error, UnusedCliTokensError):
        return f"Expected nothing more; got {tokens!r}.{more}"
    if isinstance(error, MissingArgumentError):
        return _missing(error, verb, hint)
    if isinstance(error, CoercionError) and error.token is not None and error.argument is not None:
        former = FORMER.get(error.token.value)
        hint = f" Did you mean {former}?" if former else hint
        return f"Expected {_kind(error.target_type)} for {_name(error)}; got {error.token.value!r}.{hint}"
    return f"Expected a well-formed command; got an error: {said}{more}"


def _verb_for(word: str, verbs: Sequence[str]) -> str:
    """What to write for a first word that no verb is spelled like: another word for one, a recipe, a run or data."""
    name = word.strip("-").lower()
    if name in MEANT or name in verbs:
        return f"'tightbound {MEANT.get(name, name)}'"
    text, path = shlex.quote(word), Path(word)
    if word in recipes.shipped() or (path.suffix == ".toml" and path.is_file()):
        return f"'tightbound train {text}'"
    if (path / RECIPE).is_file() or (path / RECORD).is_file():
        return f"'tightbound report {text}', or another verb for that run"
    if path.exists():
        return f"'tightbound train auto --data {text}'"
    close = difflib.get_close_matches(word, recipes.shipped(), n=1, cutoff=0.8)
    return f"'tightbound train {close[0]}'" if close else ""


def _near(error: UnknownOptionError) -> str:
    """Options that a mistyped one can stand for: "--epoch" for --train.epochs, and never a section of them."""
    meant: dict[str, list[str]] = {}
    for option in error.argument_collection:
        for name in () if option.children else option.names:
            last = name.rpartition(".")[2].lstrip("-")
            initials = "".join(word[0] for word in last.split("-")) if "-" in last else last  # lr
            for known in {name.lstrip("-"), last, initials}:
                meant.setdefault(known, []).append(name)
    wrong = (error.token.keyword or error.token.value).lstrip("-")
    if wrong in DEVICES and "device" in meant:
        return f" Did you mean {meant['device'][0]} {DEVICES[wrong]}?"
    others = [name for name in OTHERS.get(wrong, ()) if name in meant and wrong not in meant]
    close = others or difflib.get_close_matches(wrong, meant, n=1)
    return f" Did you mean {' or '.join(meant[close[0]])}?" if close else ""


def _missing(error: MissingArgumentError, verb: str, hint: str) -> str:
    if not (error.tokens_so_far or error.keyword):
        return f"Expected {_name(error)} with '{verb}'; got none.{hint or _example(error)}"
    count = error.argument.token_count()[0] if error.argument else 1
    got = " ".join(error.tokens_so_far) or "none"
    return f"Expected {count} value{'s'[: count > 1]} after {error.keyword or _name(error)}; got {got}."


def _name(error: CycloptsError) -> str:
    name = error.argument.name if error.argument else ""
    return name if name.startswith("--") else name.upper()


def _kind(target: Any) -> str:
    if typing.get_origin(target) is Literal:
        *others, last = map(str, typing.get_args(target))
        return f"{', '.join(others)} or {last}" if others else last
    return TYPES.get(target, getattr(target, "__name__", str(target)))


def _example(error: CycloptsError) -> str:
    """The first command in the verb's own help."""
    found = re.search(r"`(tightbound [^`]+)`", (error.target and error.target.__doc__) or "")
    return f" For example: {found[1]}" if found else ""
