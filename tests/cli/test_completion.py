"""``rave-trio completion``: real shells read the script and complete with it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = """
source "$1"
COMP_WORDS=(rave-trio upscale --{partial})
COMP_CWORD=2
$(complete -p rave-trio | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
source $argv[1]
complete --do-complete 'rave-trio upscale --{partial}'
"""


@pytest.fixture
def complete(tmp_path, rave):
    """Asks a shell, with none of its user's settings, for what may follow ``rave-trio upscale --PARTIAL``."""

    def complete(shell: str, asking: str, partial: str) -> str:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        printed = rave("completion", shell)
        assert (printed.status, printed.stderr) == (0, "")
        script, question = tmp_path / "script", tmp_path / "question"
        script.write_text(printed.stdout)
        question.write_text(asking.replace("{partial}", partial))
        home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        found = subprocess.run([shell, question, script], capture_output=True, text=True, env=home, timeout=60)
        assert (found.returncode, found.stderr) == (0, ""), found.stderr
        return found.stdout

    return complete


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_can_read(rave, tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(rave("completion", shell).stdout)
    assert subprocess.run([shell, "-n", script], capture_output=True).stderr == b""


def test_bash_completes_a_flag(complete):
    assert complete("bash", BASH, "drop").split() == ["--drop-unsupported"]
    assert complete("bash", BASH, "vr").split() == ["--vram-limit"]


def test_bash_completes_the_values_of_a_flag(complete):
    asking = BASH.replace("--{partial})", "--precision f)").replace("COMP_CWORD=2", "COMP_CWORD=3")
    assert complete("bash", asking, "").split() == ["fp32", "fp16", "fp8", "fastest"]


def test_fish_completes_a_flag(complete):
    assert complete("fish", FISH, "drop").split()[0] == "--drop-unsupported"
    assert [line.split()[0] for line in complete("fish", FISH, "vr").splitlines()] == ["--vram-limit"]


@pytest.fixture
def zsh(tmp_path, rave):
    """Types into an interactive zsh, and waits until a text appears on its terminal."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "_cyclopts_rave-trio").write_text(rave("completion", "zsh").stdout)
    ours, its = pty.openpty()
    environment = {**os.environ, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
    )
    os.close(its)

    def type_and_await(keys: str, text: str) -> None:
        os.write(ours, keys.encode())
        seen = b""
        while text.encode() not in seen:
            assert select.select([ours], [], [], 20)[0], f"zsh said {seen!r}, not {text!r}"
            seen += os.read(ours, 4096)

    type_and_await(f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; print READ''Y\n", "READY")
    yield type_and_await
    shell.kill()
    shell.wait()
    os.close(ours)


def test_zsh_completes_a_flag_and_its_value(zsh):
    zsh("rave-trio upscale --drop-u\t", "--drop-unsupported ")
    zsh("--precision fp1\t", "fp16 ")


def test_nothing_is_written_to_the_users_files(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    command = [sys.executable, "-m", "rave_trio", "completion", "bash"]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tmp_path)
    assert list(Path(home).rglob("*")) == []


def test_an_unknown_shell_is_refused(rave):
    result = rave("completion", "tcsh")
    assert result.status == 2
    assert "bash" in result.stderr
