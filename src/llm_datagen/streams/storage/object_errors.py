"""What an object store refuses, in words: which errors pass by themselves, and what to do about the others.

Messages of the client may hold addresses with signatures, and answers of the store with names of keys. Nothing of them
is passed on but the status and the code of the error, and a key that cannot be listed.
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>|\"(?:reason|code)\": ?\"(\w+)\"")
_STATUS = re.compile(r"status code: (\d{3})")
_CREDENTIALS = {
    "AccessDenied",
    "AuthenticationFailed",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_EXPIRED = {"AuthenticationFailed", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_PASSING_CODES = {
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
}
_PASSING_STATUS = {"408", "409", "425", "429"}
_ODD_KEY = re.compile(r"Path \"(.*?)\"(?:: Encountered illegal| contained empty path segment)", re.DOTALL)
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "metadata server", "credential")
_OF_THIS_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EACCES, errno.EIO}
_RENEW = "renew the credentials in the environment, or ask for the right, then resume"


class StoreProblem(NamedTuple):
    """What went wrong with a request.

    Attributes:
        passes: whether it may go away by itself, so that the request is worth another try.
        what: in words, with what to do.
        key: the object that is to blame, where the error names another one than was asked for.
        is_expired: whether it may help to read the credentials again.
    """

    passes: bool
    what: str
    key: str = ""
    is_expired: bool = False


def is_no_bucket(error: BaseException) -> bool:
    """Return whether an error of the client says that there is no such bucket."""
    return any(code in str(error) for code in _NO_BUCKET)


def problem_of(error: BaseException) -> StoreProblem:
    """Return what an error of the client says."""
    text = str(error)
    code = next((found[1] or found[2] for found in [_CODE.search(text)] if found), "")
    status = next((found[1] for found in [_STATUS.search(text)] if found), "")
    named = " ".join(part for part in (status and f"status {status}", code) if part)
    kind = type(error).__name__
    odd = _ODD_KEY.search(text)
    if odd is not None:
        return StoreProblem(
            False,
            "the key of this object has an empty part between slashes, '.', '..' or a control character, so nothing "
            "that lies beside it can be listed; rename or remove it, or move the others to another prefix",
            odd[1],
        )
    if code in _NO_BUCKET:
        return StoreProblem(False, f"there is no such bucket ({named}); check the address, or make the bucket")
    if code in _CREDENTIALS or status in {"401", "403"} or kind in {"PermissionDeniedError", "UnauthenticatedError"}:
        return StoreProblem(
            False,
            f"the store refuses the credentials ({named or kind}); {_RENEW}",
            is_expired=code in _EXPIRED or status == "401",
        )
    if status == "501" or kind in {"NotSupportedError", "NotImplementedError"}:
        return StoreProblem(False, f"the store cannot do what is asked of it ({named or kind})")
    if code in _PASSING_CODES or status in _PASSING_STATUS or status.startswith("5"):
        return StoreProblem(True, f"the store answers with an error ({named}), also when asked again; resume later")
    if status == "400":  # the answer to a HEAD has no body that says more
        return StoreProblem(
            False,
            f"the store refuses the request ({named}), as it does when credentials have expired; {_RENEW}",
            is_expired=not code,
        )
    if status:
        return StoreProblem(False, f"the store refuses the request ({named})")
    if isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE:
        return StoreProblem(False, f"{error.strerror}, on this machine; mend that, then resume")
    if any(sign in text for sign in _NO_CREDENTIALS):
        return StoreProblem(
            False, "no credentials were found; set those of the store in the environment, such as AWS_ACCESS_KEY_ID"
        )
    return StoreProblem(
        True,
        "the store cannot be reached, or breaks the connection, also when asked again; check the network and the "
        "endpoint, then resume",
    )
