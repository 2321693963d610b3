"""Addresses of servers, databases and folders: as they may be shown, and made absolute.

An address is a URL, for a database one of SQLAlchemy's, or a path. It may hold a login, which belongs in no message,
no log and no file that others read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

#: schemes whose login ends with the first / at the latest; a database's password may hold one (as SQLAlchemy reads it)
_WEB = ("http", "https", "ray", "s3", "gs", "gcs", "file")
_DATABASE_LOGIN = re.compile(r"([^:/]*)(:[^@]*)?@")
#: what is no port, with an @ somewhere behind it, is a password that was not quoted
_UNQUOTED_LOGIN = re.compile(r"([^:/?#@]*)(:(?!\d*(?:[/?#]|$))[^@]*)@")
#: a value of a query that is secret by its name; pyodbc has a whole connection string in one
_SECRET_VALUE = re.compile(
    r"(?i)([?&;][^=&?#\s]*(?:passw|pwd|secret|token|credential|signature|access_?key|api_?key|odbc_connect)[^=&?#\s]*=)"
    r"(?!…)([^&#\s\"'<>]+)"
)
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s\"'<>]+")
#: a server's, from which http:// was left out
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9][\w.-]*:\d{1,5}(?:/.*)?")
#: what MLflow takes that looks like a path
_MLFLOW_NAMES = ("databricks", "databricks-uc", "uc")


class _Parts(NamedTuple):
    """``scheme://user:password@rest``; user and password None where there are none."""

    scheme: str
    user: str | None
    password: str | None
    rest: str


def without_password(address: str) -> str:
    """``address`` as it may be shown: the user's name stays."""
    parts = _parts(address)
    if parts.user is not None:
        address = f"{parts.scheme}://{parts.user}@{parts.rest}"
    return _SECRET_VALUE.sub(r"\1…", address)


def without_login(address: str) -> str:
    """``address`` without user and password."""
    parts = _parts(address)
    if parts.user is not None:
        address = f"{parts.scheme}://{parts.rest}"
    return _SECRET_VALUE.sub(r"\1…", address)


def has_secret(address: str) -> bool:
    """Whether ``address`` holds a password, or a secret in its query."""
    return next(_secrets(address), None) is not None


def masked(text: str, *known: str) -> str:
    """``text`` without the passwords of the addresses in it, nor any of the ``known`` addresses'."""
    for address in known:
        text = text.replace(address, without_password(address))
        for secret in _secrets(address):
            text = text.replace(secret, "…")
    return _IN_TEXT.sub(lambda match: without_password(match[0]), text)


def without_logins(text: str) -> str:
    """``text`` with user and password of every address in it left out."""
    return _IN_TEXT.sub(lambda match: without_login(match[0]), text)


def absolute(address: str, folder: Path | None = None) -> str:
    """``address`` with a relative path in it made absolute, from ``folder`` or else the working directory.

    ``sqlite:///studies.db`` is relative in SQLAlchemy's notation, ``sqlite:////home/me/studies.db`` is not. Names of
    hosts, and of databases on them, stay as they are.
    """
    folder = folder or Path.cwd()
    scheme, mark, rest = address.partition("://")
    if mark and scheme.partition("+")[0] == "sqlite":
        name, question, query = rest.removeprefix("/").partition("?")
        by_uri = "file:" if name.startswith("file:") else ""
        path = name.removeprefix(by_uri)
        if not rest.startswith("/") or path in ("", ":memory:"):
            return address
        return f"{scheme}:///{by_uri}{folder / path}{question}{query}"
    if address.startswith("file:"):
        path = unquote(urlsplit(address).netloc + urlsplit(address).path)
        return (folder / path).resolve().as_uri()
    if not address or mark or address in _MLFLOW_NAMES or re.match(r"\w+:", address) or lacks_scheme(address):
        return address
    return str((folder / Path(address).expanduser()).resolve())


def lacks_scheme(address: str) -> bool:
    """Whether ``address`` is a server's host and port alone."""
    return _HOST_AND_PORT.fullmatch(address) is not None


def sqlite_path(address: str) -> Path | None:
    """The file of a SQLite database, None for every other address."""
    scheme, mark, rest = address.partition(":///")
    if not mark or scheme.partition("+")[0] != "sqlite":
        return None
    name = rest.partition("?")[0].removeprefix("file:")
    return Path(name) if name not in ("", ":memory:") else None


def _parts(address: str) -> _Parts:
    scheme, mark, rest = address.partition("://")
    if not mark:
        return _Parts("", None, None, address)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    is_web = scheme.lower() in _WEB
    login = (_UNQUOTED_LOGIN if is_web else _DATABASE_LOGIN).match(rest)
    if is_web and "@" in authority:
        end = authority.rindex("@")
    elif login:
        # an @ in the password that was not quoted either
        end = login.end() - 1
        end += max(0, re.split(r"[/?#]", rest[login.end() :], maxsplit=1)[0].rfind("@") + 1)
    else:
        return _Parts(scheme, None, None, rest)
    user, colon, password = rest[:end].partition(":")
    return _Parts(scheme, user, password if colon else None, rest[end + 1 :])


def _secrets(address: str) -> Iterator[str]:
    """What must not be shown of ``address``, as it stands there and as servers are given it."""
    password = _parts(address).password
    if password:
        yield from (password, unquote(password))
        # SQLAlchemy ends a password at the first @, and takes what follows for a host
        if "@" in password:
            yield from (password.partition("@")[0], f"{password.partition('@')[2]}@")
    for _, value in _SECRET_VALUE.findall(address):
        yield from (value, unquote(value))
