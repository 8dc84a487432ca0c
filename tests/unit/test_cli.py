# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line as a whole: what it finds, and what becomes of errors."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import click
import pytest

from kleaktrace import __version__, cli
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost, ExitCode, KleaktraceError, UsageError

COMMANDS = ["trace", "run", "confirm", "explain", "kmemleak", "doctor"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kleaktrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch, main):
    """Run a command that raises this."""

    def run(error: BaseException) -> tuple[int, str, str]:
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli._Commands, "get_command", lambda *_: click.Command("fail", callback=fail))
        return main("fail")

    return run


def test_help_lists_the_commands_in_their_order(main) -> None:
    code, out, err = main("--help")
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines() if line.startswith("  ")]
    assert [word for word in listed if word in COMMANDS] == COMMANDS
    for name, words in cli._COMMANDS.items():
        assert words.split()[0] in out, name


def test_help_imports_no_command() -> None:
    done = python(
        "import sys\nfrom kleaktrace import cli\nsys.argv = ['kleaktrace', '--help']\ncode = cli._run()\n"
        "heavy = ('kleaktrace.commands', 'bcc', 'numpy', 'rich', 'textual')\n"
        "loaded = [m for m in sys.modules if m.startswith(heavy)]\n"
        "sys.exit(f'{code} {loaded}')"
    )
    assert done.stderr.strip() == "0 []"


def test_what_reads_damaged_reports_is_imported_only_for_them() -> None:
    report = (
        'unreferenced object 0xffff888100010000 (size 64):\\n  comm "sh", pid 7, jiffies 4294900000\\n'
        "  hex dump (first 32 bytes):\\n    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\\n"
        "    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\\n  backtrace (crc 0):\\n"
        "    [<ffffffff81234567>] drv_probe+0x12/0x40 [drv]\\n"
    )
    done = python(
        "import sys\nfrom kleaktrace.commands import run\nfrom kleaktrace.core.kmemleak.report_parser import parse\n"
        f"read = parse({report!r}.replace('\\\\n', '\\n'))\n"
        "print(len(read.objects), len(read.problems), 'kleaktrace.core.kmemleak.rough_reports' in sys.modules)"
    )
    assert done.stdout.split() == ["1", "0", "False"], done.stderr


def test_the_screen_and_what_scans_are_imported_only_when_tracing_has_started() -> None:
    done = python(
        "import sys\nfrom kleaktrace.commands import trace\n"
        "sys.exit(str([m for m in sys.modules if m.startswith(('textual', 'kleaktrace.edge.kmemleak'))]))"
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(main, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"kleaktrace.commands.{name}", raising=False)  # click remembers who asked for help
    for option in ("--help", "-h"):
        code, out, _ = main(name, option)
        assert code == 0
        assert f"kleaktrace {name}" in " ".join(out.splitlines()[0].replace(".", " ").split())


def test_the_version(main) -> None:
    assert main("--version") == (0, f"kleaktrace, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["explian"], "No such command 'explian'. Did you mean 'explain'?"),
        (["../doctor"], "No such command"),
        (["--nonsense"], "No such option"),
        (["trace", "--nonsense"], "No such option"),
        (["trace", "--duration", "x"], "--duration"),
        (["trace", "--top", "0"], "--top"),
        (["trace", "--by", "colour"], "--by"),
        (["run"], "Missing argument"),
        (["explain", "a", "b", "c"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_told_in_words_with_exit_code_2(main, arguments: list[str], message: str) -> None:
    code, out, err = main(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in err
    assert "Traceback" not in err


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_usage(main) -> None:
    code, out, err = main()
    assert code == ExitCode.USAGE
    assert "Commands:" in out + err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("what", "fix"), 2),
        (EnvironmentRefusal("what", "fix"), 3),
        (KleaktraceError("what", "fix"), 3),
        (EvidenceLost("what", "fix"), 4),
    ],
)
def test_an_error_is_one_line_what_and_one_line_what_to_do(raising, error: KleaktraceError, code: int) -> None:
    assert raising(error) == (code, "", "kleaktrace: what\n  fix\n")


def test_an_error_without_a_remedy_is_one_line(raising) -> None:
    assert raising(EnvironmentRefusal("what")) == (3, "", "kleaktrace: what\n")


def test_what_an_error_quotes_cannot_reach_the_terminal(raising) -> None:
    assert raising(UsageError("\x1b[2J", "a\nb"))[2] == "kleaktrace: \\x1b[2J\n  a\\nb\n"


def test_an_interrupt_is_said(raising) -> None:
    assert raising(KeyboardInterrupt()) == (130, "", "\nkleaktrace: interrupted\n")


def test_a_command_s_exit_code_is_ours(monkeypatch: pytest.MonkeyPatch, main) -> None:
    @click.command()
    @click.pass_context
    def four(ctx: click.Context) -> None:
        ctx.exit(4)

    monkeypatch.setattr(cli._Commands, "get_command", lambda *_: four)
    assert main("four")[0] == 4


@pytest.mark.parametrize("how", ["print('x' * 100_000)", "console.make().print('x' * 100_000)"])
def test_a_reader_that_has_seen_enough_gets_no_complaint_and_is_not_told_of_leaks(how: str) -> None:
    """Exit code 1 means confirmed leaks; both click and rich would end with it."""
    code = (
        "import os, sys, click\nfrom kleaktrace import cli\nfrom kleaktrace.views.terminal import console\n"
        "reading, writing = os.pipe()\nos.dup2(writing, 1)\nos.close(reading)\n"
        f"command = click.Command('c', callback=lambda: {how})\n"
        "cli._Commands.get_command = lambda *_: command\nsys.argv = ['kleaktrace', 'c']\ncli.main()\n"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_bug_is_no_verdict_and_shows_where_it_is_to_who_asks(raising, main, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = raising(ZeroDivisionError("made up"))
    assert (code, out) == (70, "")
    assert "a bug of kleaktrace: ZeroDivisionError: made up" in err
    assert "Traceback" not in err
    code, _, err = main("-v", "fail")
    assert (code, "Traceback" in err) == (70, True)


@pytest.fixture(autouse=True)
def _quiet_again():
    yield
    root = logging.getLogger("kleaktrace")
    root.handlers[:] = []
    root.setLevel(logging.NOTSET)
    root.propagate = True


def test_the_log_is_told_on_standard_error_to_who_asks_by_option_or_environment() -> None:
    code = "import logging, sys\nfrom kleaktrace import cli, logs\nimport click\n"
    code += "say = lambda: logging.getLogger('kleaktrace.x').debug('inside')\n"
    code += "cli._Commands.get_command = lambda *_: click.Command('c', callback=say)\n"
    for words, environment, told in (
        (["-v", "c"], {}, True),
        (["c"], {"KLEAKTRACE_LOG": "debug"}, True),
        (["c"], {}, False),
    ):
        script = code + f"sys.argv = ['kleaktrace', *{words}]\ncli.main()\n"
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=True,
        )
        assert (done.stdout, "kleaktrace.x: inside" in done.stderr) == ("", told), done.stderr


def test_a_level_that_there_is_not_is_refused(main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLEAKTRACE_LOG", "loud")
    code, _, err = main("--help")
    assert (code, "KLEAKTRACE_LOG=loud is no level" in err) == (2, True)


def test_verbose_may_stand_behind_the_command(main) -> None:
    assert main("schema", "-v")[0] == 0
