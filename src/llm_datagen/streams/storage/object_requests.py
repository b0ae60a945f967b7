"""Requests to an object store, each of which is made again while that may help, and can be interrupted."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llm_datagen.errors import DiskError
from llm_datagen.streams.storage import waiting
from llm_datagen.streams.storage.object_errors import is_no_bucket, problem_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is repeated, after the client itself has repeated it some times.

    Attributes:
        tries: how often it is made.
        seconds: the wait before the second one; each further one is twice as long.
    """

    tries: int = 5
    seconds: float = 1.0


PATIENCE = Patience()
"""How long all requests are repeated, unless said otherwise."""

RENEWALS = 3
"""How often a request is made again when credentials have expired, each time with those that are valid then."""


class Requests:
    """Makes the requests to one bucket. Any thread may use it.

    Args:
        client: obstore's client of it.
        name: its address, such as ``s3://bucket``, for messages.
        patience: how long requests are repeated.
        renewed: returns a client in place of one whose credentials have expired.

    Attributes:
        client: the client; another one when credentials have expired.
        name: the address of the bucket.
    """

    def __init__(
        self,
        client: ObjectStore,
        name: str,
        patience: Patience | None = None,
        renewed: Callable[[ObjectStore], ObjectStore] | None = None,
    ) -> None:
        self.client = client
        self.name = name
        self._patience = patience or PATIENCE
        self._renewed = renewed

    def body(self, key: str, options: dict[str, Any]) -> tuple[bytes, Any]:
        """Ask for an object once, or for a part of it; return what came, and what is said of the object."""
        import obstore

        def get() -> tuple[bytes, Any]:
            result = obstore.get(self.client, key, options=cast(Any, options))
            return bytes(result.bytes()), result.meta

        return waiting.aside(get)

    def ask(self, name: str, *args: Any, **more: Any) -> Any:
        """Make a request once, by the function of the client that is called so."""
        import obstore

        return waiting.aside(lambda: getattr(obstore, name)(self.client, *args, **more))

    def pages(self, prefix: str, after: str | None) -> Callable[[], Any]:
        """Return what asks for the next page of the objects below `prefix/`; it returns None behind the last."""
        import obstore

        pages: Any = obstore.list(self.client, prefix, offset=after)
        return lambda: waiting.aside(lambda: next(pages, None))

    def repeated(self, key: str, request: Callable[[], Result]) -> Result:
        """Make a request, again while what is wrong may pass. Credentials that have expired are read again.

        Args:
            key: the object that it is about, for messages.
            request: makes it once.

        Raises:
            DiskError: when it does not pass.
            Interrupted: when there is no time for that.
        """
        wait, tries, renewals = self._patience.seconds, self._patience.tries, RENEWALS
        while True:
            is_expired = False
            try:
                return request()
            except ShortReadError:
                tries -= 1
                if not tries:
                    problem = f"the store gave less than what was asked for, {self._patience.tries} times; resume later"
                    raise DiskError(errno.EIO, problem, f"{self.name}/{key}") from None
            except FileNotFoundError as error:
                if is_no_bucket(error):
                    raise self.error(key, error) from None
                raise
            except Exception as error:
                if not is_of_client(error) or type(error).__name__ == "PreconditionError":
                    raise
                problem_of_it = problem_of(error)
                is_expired = problem_of_it.is_expired and self._renewed is not None
                tries, renewals = (tries, renewals - 1) if is_expired else (tries - 1, renewals)
                if renewals < 0 or not (is_expired or (tries > 0 and problem_of_it.passes)):
                    raise self.error(key, error) from None
            waiting.sleep(wait)
            wait *= 2
            if is_expired and self._renewed is not None:
                self.client = self._renewed(self.client)

    def error(self, key: str, error: BaseException) -> DiskError:
        """Return what an error of the client says, in our words."""
        problem = problem_of(error)
        number = errno.EIO if problem.passes else errno.EINVAL if problem.key else errno.EACCES
        return DiskError(number, problem.what, f"{self.name}/{problem.key or key}")


class ShortReadError(Exception):
    """Fewer bytes came than were asked for."""


def is_of_client(error: BaseException) -> bool:
    """Return whether the client of the store has raised an error of a request, and not the code around it."""
    from obstore.exceptions import BaseError

    return isinstance(error, BaseError | NotImplementedError) or (
        isinstance(error, OSError) and not isinstance(error, FileNotFoundError | DiskError)
    )
