import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from click.testing import CliRunner

from aibench.cli import main, plan, progress
from aibench.cli.text import printable
from aibench.config import load_config, resolve

ROOT = Path(__file__).parents[2]
VISIBLE = [
    "smoke",
    "run",
    "resume",
    "status",
    "logs",
    "cancel",
    "fetch",
    "score",
    "report",
    "verify",
    "count",
    "compare-search",
]
HIDDEN = [
    "master",
    "worker",
    "rank",
    "trainer",
    "proposer",
    "devices",
    "network-features",
    "broadcast",
    "staged",
    "unpack",
]


def imported_modules(code: str) -> set[str]:
    report = f"import sys\n{code}\nprint(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_set_of_commands_and_their_options_is_pinned() -> None:
    options = {
        name: sorted(option for parameter in command.params for option in parameter.opts)
        for name, command in main.commands.items()
    }
    assert options == {
        "smoke": ["--json", "--junit", "--out", "--quiet", "-q"],
        "run": ["--detach", "--dry-run", "--launcher", "--out", "--quiet", "--set", "-q", "config"],
        "resume": ["--detach", "--quiet", "-q", "directory"],
        "status": ["--json", "directory"],
        "logs": ["directory"],
        "cancel": ["directory"],
        "fetch": ["directory"],
        "score": ["--json", "--out", "directories"],
        "report": ["directory"],
        "verify": ["directory"],
        "count": ["--classes", "--input", "--json", "--width", "architecture"],
        "compare-search": [
            "--algorithms",
            "--budget",
            "--jobs",
            "--on",
            "--out",
            "--seeds",
            "--set",
            "config",
        ],
        "master": ["--run", "directory"],
        "worker": ["--control", "--device", "--first-device", "--nodes", "--pool", "--ranks", "--worker"],
        "rank": ["--control", "--device", "--first-device", "--worker"],
        "trainer": [],
        "proposer": ["--control", "--incarnation", "--parent", "--worker"],
        "devices": [],
        "network-features": ["workload"],
        "broadcast": ["--into", "--manifest", "--parts"],
        "staged": ["--into", "--manifest", "--parts"],
        "unpack": ["--into", "--manifest", "--parts"],
    }
    assert [name for name, command in main.commands.items() if command.hidden] == HIDDEN


@pytest.mark.parametrize("name", VISIBLE)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"], prog_name="aibench")
    assert shown.exit_code == 0
    assert f"aibench {name}" in shown.output.partition("Example:")[2]
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_imports_nothing_heavy() -> None:
    code = "from aibench.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    heavy = {"torch", "optuna", "numpy", "sklearn", "httpx", "uvicorn", "starlette", "psutil", "yaml"}
    assert imported_modules(code) & heavy == set()


def test_the_master_and_a_resolved_run_import_no_torch() -> None:
    code = (
        "import aibench.master.run\n"
        "from aibench.config import load_config, resolve\n"
        "resolve(load_config('smoke'))"
    )
    modules = imported_modules(code)
    assert "aibench" in modules
    assert modules & {"torch", "sklearn"} == set()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run"], "aibench: Missing argument 'CONFIG'. (see aibench run --help)\n"),
        (["nope"], "aibench: No such command 'nope'. (see aibench --help)\n"),
        (
            ["count", "resnet18", "--input", "3,x,9"],
            "aibench: Invalid value for --input: '3,x,9': expected C,H,W such as 3,224,224 "
            "(see aibench count --help)\n",
        ),
        (
            ["run", "smok"],
            "aibench: smok: no such configuration; did you mean 'smoke'? "
            "give a YAML file or one of cifar10, imagenet, smoke\n",
        ),
        (
            ["run", "smoke", "--set", "limits.measured_time=1"],
            "aibench: limits.measured_time: unknown key (did you mean 'measured_time_s'?)\n",
        ),
    ],
)
def test_bad_input_gets_one_line_and_exit_status_2(arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(main, arguments, prog_name="aibench")
    assert done.exit_code == 2
    assert done.stderr == line
    assert done.stdout == ""


def test_without_a_command_the_help_is_shown() -> None:
    done = CliRunner().invoke(main, [], prog_name="aibench")
    assert done.exit_code == 2
    assert done.stderr.startswith("Usage: aibench [OPTIONS] COMMAND [ARGS]...\n\n  Benchmark AI compute")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "search.space.kernel_size={choices: [4]}",
            "aibench: search.space.kernel_size: got 4; "
            "kernel_size 4: expected an odd whole number from 3 on\n",
        ),
        (
            "seed=100000000000000000000000",
            "aibench: seed: got 100000000000000000000000; expected int <= 9007199254740992\n",
        ),
        (
            "control.host=0.0.0.0",
            "aibench: control: host '0.0.0.0' names no address; give one that the workers can reach\n",
        ),
        ("start.timeout_s=7200", "aibench: start.timeout_s: got 7200; expected float <= 1500.0\n"),
    ],
)
def test_values_that_no_run_could_use_are_refused_before_it(override: str, line: str) -> None:
    done = CliRunner().invoke(main, ["run", "smoke", "--set", override, "--dry-run"], prog_name="aibench")
    assert done.exit_code == 2
    assert done.stderr == line


def test_a_dry_run_prints_a_configuration_that_can_be_run(tmp_path: Path) -> None:
    arguments = ["--set", "workers.0.device=cpu", "--set", "workers.1.device=cpu", "--dry-run"]
    first = CliRunner().invoke(main, ["run", "smoke", *arguments], prog_name="aibench")
    assert first.exit_code == 0
    assert "# Division smoke: can be valid\n" in first.stdout
    copy = tmp_path / "copy.yaml"
    copy.write_text(first.stdout)
    second = CliRunner().invoke(main, ["run", str(copy), "--dry-run"], prog_name="aibench")
    assert yaml.safe_load(second.stdout) == yaml.safe_load(first.stdout)


def test_a_run_that_cannot_become_valid_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic = ["division=open", "workload.data=synthetic", "limits.measured_time_s=9"]
    plan.warn_if_hopeless(resolve(load_config("smoke", synthetic)))
    assert capsys.readouterr().err == (
        "aibench: the result will be invalid: real-data: synthetic, expected real data; "
        "use real data, or division: smoke\n"
    )


def test_foreign_text_cannot_command_the_terminal() -> None:
    assert printable("run \x1b]0;x\x07 \u009b31m\ttwo\nlines é") == "run �]0;x� �31m�two\nlines é"


def test_a_display_that_nobody_reads_does_not_end_the_run() -> None:
    shown: list[str] = []

    def show(_: object) -> None:
        shown.append("tried")
        raise BrokenPipeError

    on_progress = progress._every(0.0, show)
    running = SimpleNamespace(is_over=False)
    for _ in range(3):
        on_progress(running)  # type: ignore[arg-type]
    assert shown == ["tried"]


def test_nothing_is_written_when_the_run_folder_is_occupied(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    done = CliRunner().invoke(
        main, ["run", "smoke", "--set", "workers.0.device=cpu", "--out", str(tmp_path)], prog_name="aibench"
    )
    assert done.exit_code == 2
    assert done.stderr == f"aibench: {tmp_path}: is not empty; expected a new or empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_count_prints_the_golden_totals() -> None:
    done = CliRunner().invoke(main, ["count", "resnet50-v1"], prog_name="aibench")
    assert done.exit_code == 0
    assert "7,806,583,495" in done.output
    assert "23,053,458,315" in done.output


def test_readme_commands_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    used = set(re.findall(r"(?:^|/)aibench ([a-z-]+)", blocks, flags=re.MULTILINE))
    assert used == set(VISIBLE)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_relative_links_resolve(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []
