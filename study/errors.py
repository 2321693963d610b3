"""What went wrong, said to the user."""

from __future__ import annotations

#: exit codes: 1 where trials failed or a check did, 2 for what the user can correct, 130 after Ctrl-C
FAILED, REFUSED, INTERRUPTED = 1, 2, 130


class UserError(Exception):
    """One sentence that names the field, file or server, and what to do about it.

    The command line prints it as ``error: …`` and exits with code 2.
    """
