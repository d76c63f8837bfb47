"""Bearer tokens: their hashes in a file, which is read again when it changes.

    - name: mobile-app             # for messages and limits
      sha256: 9f86d081884c7d65...  # of the token, in hex
      models: [speaker, digits]    # or "*", all of them; none by default
    - name: deployer
      sha256: 60303ae22b998861...
      admin: true                  # may load and unload models
      expires: 2027-06-30          # the last day, UTC

A token is meant to be drawn at random (`openssl rand -hex 32`), not thought up: then one round of SHA-256 cannot be
reversed by guessing, and costs a microsecond per call, where a password hash would cost a server its throughput.
"""

import datetime as dt
import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import ConfigError, Unauthenticated
from serving.manifest import NAME_PATTERN
from serving.strict_yaml import load_yaml
from serving.wire.access.rights import ALL, Client, Known

log = logging.getLogger(__name__)
LOOK_NS = NANOSECONDS_PER_SECOND
"""How long a change of the file may go unnoticed: looking costs more than comparing does."""


class Entry(BaseModel):
    """One token of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    models: Literal["*"] | tuple[Annotated[str, Field(pattern=NAME_PATTERN)], ...] = ()
    admin: bool = False
    expires: dt.date | None = None


_FILE = TypeAdapter(Annotated[tuple[Entry, ...], Field(min_length=1)])


class Tokens:
    """The tokens of a file. Safe to use from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or is not what this module's docstring shows.
        """
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._known = _read(path)
        self._look_at_ns = clock.now_ns() + LOOK_NS
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each change of the tokens, by whoever found it."""
        self._watchers.append(changed)

    def client(self, token: str) -> Client:
        """Return whose token it is. All are compared, each in constant time, so that timing tells nothing.

        Raises:
            Unauthenticated: nobody's, or it has expired.
        """
        self.look()
        digest = hashlib.sha256(token.encode()).digest()
        found: Known | None = None
        for known in self._known:
            if hmac.compare_digest(known.sha256, digest):
                found = known
        if found is None:
            raise Unauthenticated("the token is not known here")
        if found.ends_at is not None and dt.datetime.now(dt.UTC).timestamp() >= found.ends_at:
            raise Unauthenticated(f"the token of client '{found.client.name}' has expired")
        return found.client

    def table(self) -> Sequence[Known]:
        """Return all tokens that are known now."""
        return self._known

    def look(self) -> None:
        """Read the file again if it is time to, and it has changed; one that is wrong leaves what was read before."""
        now_ns = self._clock.now_ns()
        if now_ns < self._look_at_ns:
            return
        with self._lock:
            if now_ns < self._look_at_ns:
                return
            self._look_at_ns = now_ns + LOOK_NS
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._known = _read(self._path)
            except ConfigError as error:
                log.error("%s; the tokens that were read before still hold", error)  # noqa: TRY400
            else:
                log.info("read %d tokens from %s", len(self._known), self._path)
                for changed in self._watchers:
                    changed()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _read(path: Path) -> tuple[Known, ...]:
    """Read the entries. No message repeats what stands in the file: by mistake that may be a token."""
    try:
        entries = _FILE.validate_python(load_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"--tokens {path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise ConfigError(
            f"--tokens {path}: {where}: {problem['msg']}; expected a list of entries with name, sha256, and if wanted "
            "models, admin and expires"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise ConfigError(f"--tokens {path}: not valid YAML{line}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"--tokens {path}: not valid YAML") from None
    for what in ("name", "sha256"):
        values = [getattr(entry, what) for entry in entries]
        if len(set(values)) < len(values):
            raise ConfigError(f"--tokens {path}: two entries have the same {what}; each needs its own")
    return tuple(Known(bytes.fromhex(entry.sha256), _client(entry), _end_of(entry.expires)) for entry in entries)


def _end_of(day: dt.date | None) -> int | None:
    """Return the moment when a day is over (UTC), in seconds since the epoch."""
    if day is None:
        return None
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    return int((midnight + dt.timedelta(days=1)).timestamp())


def _client(entry: Entry) -> Client:
    return Client(entry.name, frozenset([ALL] if entry.models == ALL else entry.models), entry.admin)
