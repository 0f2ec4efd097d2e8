"""What a person meets in words: sentences in place of tracebacks, streams that end, hints."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from devtools.fakes.tools import ROOT, cli_environment, command, leftovers, made_run
from orchestrator.commands import run
from orchestrator.commands.subject import subject_of
from orchestrator.errors import InterruptedRunError, KissError
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare
from orchestrator.record.run_directory import RunDirectory

ACTING = "\x1b]0;owned\x07\x1b[2J"


def spoken(done) -> str:
    assert "Traceback" not in done.stderr
    assert "unexpected:" not in done.stderr
    return done.stderr


def test_a_stage_cannot_act_on_the_terminal_and_its_log_keeps_what_it_said(
    kiss3d, tmp_path, config_file
):
    picture = tmp_path / "in.txt"
    picture.write_text(f"1 {ACTING}")
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config_file(), "--output", out)
    assert done.returncode == 2
    assert r"\x1b]0;owned" in done.stderr.replace("\\\\", "\\")
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize("ask", [("runs", "show"), ("runs", "list"), ("resume",)])
def test_a_run_of_somebody_else_cannot_act_on_the_terminal(
    ask, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    record = json.loads((out / "run.json").read_text())
    record["state"] = "failed"
    record["error"] = record["profile"] = ACTING
    record["given"]["input_image"]["source"] = f"/{ACTING}[red]"
    record["nodes"]["trouble"]["cached_from"] = ACTING
    record["nodes"]["sink"]["attempts"][0] |= {
        "outcome": "crashed",
        "message": ACTING,
        "log": ACTING,
    }
    (out / "run.json").write_text(json.dumps(record))
    done = kiss3d(*ask, tmp_path if ask == ("runs", "list") else out)
    assert "\x1b" not in done.stderr + done.stdout
    assert "\x07" not in done.stderr + done.stdout


def test_the_name_of_a_file_cannot_act_on_the_terminal(kiss3d):
    done = kiss3d("run", f"a{ACTING}\u202egnp.exe")
    assert done.returncode == 2
    assert r"a\x1b]0;owned\x07\x1b[2J\u202egnp.exe does not exist" in done.stderr
    told = json.loads(kiss3d("run", f"a{ACTING}", "--json").stdout)
    assert ACTING in told["error"], "JSON keeps it"


@pytest.mark.parametrize("value", ["0x" + "f" * 5000, "1" + "0" * 5000, "&a [*a]", "[" * 3000])
def test_a_set_that_no_computer_wants_is_refused(value, kiss3d, picture, config_file):
    done = kiss3d("plan", picture, "--config", config_file(), "--set", f"trouble.seconds={value}")
    assert done.returncode == 2
    assert "is not valid YAML" in spoken(done)
    assert len(done.stderr) < 1000


def limited(kind: int, value: int):
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize("files", [12, 16, 20])
def test_too_few_open_files_are_a_sentence(files, kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    done = kiss3d(
        "run", picture, "--config", config_file(), "--output", out,
        preexec_fn=limited(resource.RLIMIT_NOFILE, files),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"at most {files} files may be open" in spoken(done)
    assert "ulimit -n" in done.stderr
    assert "limits.conf" in done.stderr, "a user cannot raise a hard limit"
    assert not out.exists()


def test_a_soft_limit_of_open_files_is_raised(kiss3d, picture, config_file, tmp_path):
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 1024))

    made = kiss3d("run", picture, "--config", config_file(), "--output", "out", preexec_fn=few)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("mib", [80, 200, 400])
def test_too_little_memory_is_a_sentence(mib, kiss3d, picture, config_file, tmp_path):
    done = kiss3d(
        "run", picture, "--config", config_file(), "--output", "out",
        preexec_fn=limited(resource.RLIMIT_AS, mib << 20),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"at most {mib} MiB of memory may be used" in spoken(done)


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_a_run_goes_on_without_stderr(stream, picture, config_file, tmp_path):
    where = "2>&-" if stream == "closed" else "2>/dev/full"
    line = f'"$@" {where}'
    asked = command("run", picture, "--config", config_file(), "--output", tmp_path / "out")
    done = subprocess.run(
        ["sh", "-c", line, "sh", *asked], env=cli_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "done"
    assert done.stdout.strip() == str(tmp_path / "out")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_run_goes_on_when_whoever_reads_it_has_gone(options, picture, config_file, tmp_path):
    out = tmp_path / "out"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command("run", picture, "--config", config_file(), "--output", out, *options),
        env=cli_environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert json.loads((out / "run.json").read_text())["state"] == "done"
    assert done.returncode == 0, done.stderr
    assert f"nobody reads the output any more; see {out}" in spoken(done)


@pytest.mark.parametrize("ask", [("plan", "x", "--seed", "-1"), ("run", "x"), ("stages", "list")])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_stdout_is_no_traceback(ask, options, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*ask, *options),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=cli_environment(),
        )
    assert done.returncode in (1, 2)
    assert "error: " in spoken(done)


def test_a_locale_of_ascii_alone_takes_every_name(
    kiss3d, picture, config_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    folder = tmp_path / "größe"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    out = folder / "写真"
    done = kiss3d("run", picture, "--config", config_file(), "--output", out, encoding="utf-8")
    assert done.returncode == 0, spoken(done)
    assert done.stdout.strip() == str(out)


def test_what_could_not_be_saved_is_told_by_its_kind(
    monkeypatch, tmp_path, picture, config_file, kiss3d
):
    def full(*_):
        raise OSError(28, "No space left on device")

    class Nobody:
        def notify(self, event): ...

    monkeypatch.setattr(RunDirectory, "make_durable", full)
    prepared = prepare(Options(config_file=config_file()))
    with pytest.raises(KissError) as caught:
        run.run_one(subject_of([picture]), tmp_path / "out", prepared, Nobody())
    assert "(done)" not in caught.value.message
    assert "source failed (disk_full): cannot write the result" in caught.value.message
    assert str(tmp_path / "out" / "source") in caught.value.message
    assert "free disk space" in caught.value.hint


def test_ctrl_c_while_a_run_is_being_made_names_the_way_on(
    monkeypatch, tmp_path, picture, config_file
):
    def interrupt(*_):
        raise KeyboardInterrupt

    prepared = prepare(Options(config_file=config_file()))
    monkeypatch.setattr(run, "open_or_create", interrupt)
    with pytest.raises(InterruptedRunError) as caught:
        run.run_one(subject_of([picture]), tmp_path / "out", prepared, None)
    assert caught.value.hint == f"kiss3d-orchestrate resume {tmp_path / 'out'}"


def test_a_bad_picture_is_told_once_and_leaves_nothing(kiss3d, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x01\x02 this is no picture")
    for options in ((), ("--output", "mine")):
        done = kiss3d("run", "bad.png", "--profile", "sketch", *options)
        assert done.returncode == 2
        assert done.stderr.count("is not a picture") == 1
        assert "log:" not in done.stderr
        assert not list(tmp_path.glob("outputs/bad*"))
        assert not (tmp_path / "mine").exists()
    told = json.loads(kiss3d("run", "bad.png", "--profile", "sketch", "--json").stdout)
    assert (told["state"], told["exit_code"]) == ("failed", 2)


@pytest.mark.parametrize("ask", [("run",), ("plan",), ("batch",), ("evaluate", "--truth", "x.glb")])
def test_an_address_is_refused_as_one(ask, kiss3d):
    done = kiss3d(*ask, "https://example.org/a//b.png")
    assert done.returncode == 2
    assert "https://example.org/a//b.png is an address: download it" in done.stderr


@pytest.mark.parametrize("ask", ["run", "batch", "resume", "clean", "export"])
def test_an_empty_path_is_not_the_current_directory(ask, kiss3d):
    """As `run "$picture"` has it, of a variable without a value."""
    done = kiss3d(ask, "")
    assert done.returncode == 2
    assert "it is empty" in done.stderr


def test_hints_name_node_and_stage(kiss3d, picture):
    ask = ("plan", picture, "--profile", "sketch")
    told = kiss3d(*ask, "--set", "inflate.thickness=1").stderr
    assert "inflate is the stage of node multiview: --set multiview.thickness=VALUE" in told
    told = kiss3d(*ask, "--set", "thickness=1").stderr
    assert "thickness is a param of node multiview (stage inflate)" in told
    assert "--set multiview.thickness=VALUE" in told
    assert "inflate is the stage of node multiview" in kiss3d(*ask, "--until", "inflate").stderr
    told = kiss3d("stages", "describe", "multiview").stderr
    assert "multiview is a node" in told
    assert "`kiss3d-orchestrate stages describe inflate`" in told


def test_a_budget_that_has_no_effect_is_told(kiss3d, picture):
    ask = ("plan", picture, "--target-vram", "8")
    assert "--target-vram has no effect" in kiss3d(*ask, "--profile", "sketch").stderr
    assert json.loads(kiss3d(*ask, "--profile", "sketch", "--json").stdout)["notes"]
    assert "no effect" not in kiss3d(*ask, "--profile", "full_12gb").stderr


def test_a_seed_that_has_no_effect_is_told(kiss3d, picture):
    ask = ("plan", picture, "--profile")
    assert "--seed has no effect" in kiss3d(*ask, "sketch", "--seed", "7").stderr
    assert "no effect" not in kiss3d(*ask, "sketch").stderr
    assert "no effect" not in kiss3d(*ask, "full_12gb", "--seed", "7").stderr


def test_a_plan_of_sketch_has_seconds_and_host_memory(kiss3d, picture):
    done = kiss3d("plan", picture, "--profile", "sketch", "--json")
    for node in json.loads(done.stdout)["nodes"]:
        assert node["expected"]["seconds"] > 0, node["node"]
        assert node["expected"]["host"] > 1 << 20, node["node"]
        assert node["expected"]["vram"] == 0
    shown = kiss3d("plan", picture, "--profile", "sketch").stdout
    assert " s on two CPU cores" in shown


def test_readme_and_profiles_say_what_a_profile_needs(kiss3d):
    rows = json.loads(kiss3d("config", "profiles", "--json").stdout)
    for document in ("README.md", "docs/profiles.md"):
        lines = (ROOT / document).read_text().splitlines()
        for row in rows:
            [line] = [text for text in lines if text.startswith(f"| `{row['name']}` |")]
            if "as `full_12gb`" in line:
                assert row["card_gib"] == next(
                    r["card_gib"] for r in rows if r["name"] == "full_12gb"
                )
            elif row["card_gib"]:
                assert f"a card, {row['card_gib']} GiB and more" in line, document
            else:
                assert "a card" not in line


@pytest.mark.parametrize(
    "ask",
    [
        ("plan", "in.txt", "--profile", "full_12gb", "--target-vram", "8"),
        ("config", "profiles"),
        ("config", "diff", "full_12gb", "original"),
        ("stages", "list"),
        ("stages", "describe", "isomer"),
        ("models", "list"),
    ],
    ids=lambda ask: " ".join(ask[:2]),
)
def test_a_table_in_a_pipe_stays_under_120_columns(ask, kiss3d, picture):
    lines = kiss3d(*ask).stdout.splitlines()
    ruled = next(i for i, line in enumerate(lines) if set(line.strip()) == {"-", " "})
    for line in lines[ruled - 1 :]:
        assert len(line) < 120 or line.split(":")[0].isidentifier(), line


@pytest.mark.parametrize(
    ("ask", "message", "hint"),
    [
        (("run",), "nothing to make a mesh of", "give a picture, a mesh, or --text"),
        (("run", "x.png", "--ouput", "y"), "No such option: --ouput", "did you mean --output?"),
        (("run", "x.png", "--seed", "-1"), "'--seed'", "kiss3d-orchestrate run --help"),
        (("runs", "shwo"), "shwo", "kiss3d-orchestrate runs --help"),
        (("resume", "a", "b"), "unexpected extra argument", "kiss3d-orchestrate resume --help"),
    ],
)
def test_a_wrong_command_line_looks_like_every_other_error(ask, message, hint, kiss3d):
    done = kiss3d(*ask)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("  -> ")
    assert hint in second


def test_the_package_itself_can_be_started(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--version"],
        cwd=tmp_path,
        env=cli_environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("kiss3d-orchestrate")


def test_a_run_beside_the_others_takes_their_results(kiss3d, picture, config_file, tmp_path):
    config = config_file()
    assert kiss3d("run", picture, "--config", config).returncode == 0
    done = kiss3d("run", picture, "--config", config, "--output", "outputs/mine")
    assert done.stderr.count("unchanged, taken from ") == 3, done.stderr
    elsewhere = kiss3d("run", picture, "--config", config, "--output", "other/mine")
    assert "unchanged" not in elsewhere.stderr


def test_doctor_fits_a_terminal_and_warns_of_the_asked_profile_alone(kiss3d):
    lines = kiss3d("doctor", "--profile", "multiview_only").stdout.splitlines()
    for line in lines:
        assert len(line) <= 80 or "/" in line, line
    warned = [line for line in lines if line.startswith("warn") and " weights: " in line]
    assert [line.split(" weights: ")[1].split()[0] for line in warned] == ["multiview_only"]
    rows = json.loads(kiss3d("doctor", "--json", "--profile", "sketch").stdout)
    assert not [
        row for row in rows if row["verdict"] == "warn" and row["name"].startswith("weights")
    ]
    done = kiss3d("doctor", "--profile", "nothing")
    assert done.returncode == 2
    assert 'unknown profile "nothing"' in done.stderr


def test_doctor_does_not_wait_for_a_library_that_takes_long(kiss3d, tmp_path, monkeypatch):
    for name in ("torch", "pytorch3d"):
        (tmp_path / "slow" / name).mkdir(parents=True)
        (tmp_path / "slow" / name / "__init__.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'slow'}:{os.environ['PYTHONPATH']}")
    rows = {row["name"]: row for row in json.loads(kiss3d("doctor", "--json").stdout)}
    assert rows["torch"]["verdict"] == "note"
    assert "doctor --wait" in rows["torch"]["remedy"]
