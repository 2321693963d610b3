"""What went wrong, said to the user."""

from __future__ import annotations


class UserError(Exception):
    """One sentence that names the field, file or server, and what to do about it.

    The command line prints it as ``error: …`` and exits with code 2.
    """
