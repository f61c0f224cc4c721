"""``rave-trio completion``: the script that lets a shell complete commands, flags and their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from cyclopts import App

from rave_trio.cli.flags import Common, Output

DEFAULT_COMMON = Common()

Shell = Literal["bash", "zsh", "fish"]


def completion(whole: App) -> Callable[..., Output]:
    """The command, for the flags of ``whole``."""

    def completion(shell: Shell, /, *, common: Common = DEFAULT_COMMON) -> Output:
        """Print a script that lets a shell complete commands, flags and their values.  Nothing is written to files.

        In bash, for this session or in ~/.bashrc: source <(rave-trio completion bash).

        In zsh, into a folder of $fpath and under this name: rave-trio completion zsh > FOLDER/_cyclopts_rave-trio.

        In fish: rave-trio completion fish > ~/.config/fish/completions/rave-trio.fish.

        Parameters
        ----------
        shell
            The shell that reads it.
        """
        common.start_logging()
        script = whole.generate_completion(shell=shell)
        return Output({"completion": {"shell": shell, "script": script}}, script)

    return completion
