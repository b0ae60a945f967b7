"""A lease: who may have a place on a store, one at a time. The counterpart of `locks`, where there is no file system.

    lease.json  {"format": 1, "fence": …, "owner": {…} or null, "seconds": …, "renewals": …, "renewed_at": …}

A lease is taken, renewed and given back by compare-and-swap, so one at a time has it. It is renewed every third of its
duration. Clocks of hosts are not compared: who wants the place of somebody who gives no sign of life watches, by its
own clock, that the lease stays as it is for its whole duration. Who died on this very machine is not waited for.

The lease says who may begin; it does not keep a process that was stopped, and wakes up, from going on for a moment.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

from llm_datagen.errors import DatagenError, DiskError, LeaseLostError, ResumeWarning
from llm_datagen.errors.warned import warn
from llm_datagen.streams.storage import waiting
from llm_datagen.streams.storage.bucket import Version
from llm_datagen.streams.storage.lease_record import LEASE, FoundLease, LeaseRecord
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.owner import Owner, now_text
from llm_datagen.streams.storage.waiting import Interrupt, Interrupted

LEASE_SECONDS = 30.0
"""How long a lease is good without being renewed."""

_SLACK_SECONDS = 10.0
"""How far the clocks of two hosts may be apart, where somebody only looks."""

_held: set[str] = set()
"""The tokens of the leases that this process has: one of its own that is not here could not be given back."""


class Lease:
    """The lease of one folder. A thread of its own renews it. A subclass says what it is about.

    Args:
        objects: the folder.
        name: what it is, and where, for messages.

    Attributes:
        busy: what is raised when somebody else has it.
        doing: what its holder does, for messages.
        hint: what one may do about a holder.
        after_loss: what one may do when it is lost.
        fence: the number of this holder; 0 before it was ever held.
    """

    busy: ClassVar[type[DatagenError]]
    doing: ClassVar[str]
    hint: str
    after_loss: ClassVar[str]

    def __init__(self, objects: ObjectFolder, name: str) -> None:
        self.fence = 0
        self._objects = objects
        self._name = name
        self._lease: LeaseRecord | None = None
        self._version: Version = {}
        self._lost: LeaseLostError | None = None
        self._putting = threading.Lock()
        self._is_over = threading.Event()
        self._interrupt = Interrupt()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take it for this object; wait, if need be, until the lease of who died elsewhere has run out.

        Raises:
            PipelineBusyError, StreamBusyError: when somebody has it.
            ConfigError, StreamError: when the store has no conditional puts.
            DiskError: when it refuses, or cannot be reached.
        """
        if self._thread is not None:
            raise self.busy(self._busy(self._lease))
        found = self._find()  # first: what is wrong with the way to the store is said sooner
        self.check_conditional_puts()
        was_left = found is not None and found.lease.owner is not None
        if found is not None and was_left:
            found = self._left_by_the_dead(found)
        self._take(found, fence=max(found.lease.fence if found else 0, self.last_fence()) + 1)
        try:
            if was_left:
                self.take_over()
                self._log_taken(found)
        except BaseException:
            self._give_back()
            if found is None:
                self.remove()
            raise
        self._is_over, self._interrupt = threading.Event(), Interrupt()
        self._thread = threading.Thread(target=self._renew, args=(self._is_over,), name="datagen-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others take it. May be called more than once."""
        if self._thread is not None:
            self._stop()
            self._give_back()

    def check(self) -> None:
        """Raise LeaseLostError if somebody else has taken it, or it could not be renewed."""
        if self._lost is not None:
            raise self._lost

    @property
    def is_lost(self) -> bool:
        """Whether this object had it, and has lost it."""
        return self._lost is not None

    def is_held(self) -> bool:
        """Return whether somebody, or this object, has it. Of other machines, by the clocks of both.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        if self._thread is not None and self._lost is None:
            return True
        found = self._find()
        if found is None or found.lease.owner is None or _is_gone(found.lease.owner):
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(found.lease.renewed_at)
        return abs(age.total_seconds()) <= found.lease.seconds + _SLACK_SECONDS

    def owner(self) -> Owner | None:
        """Return who has it, or had it when its process died; None when it was given back, or never taken."""
        with contextlib.suppress(DiskError, self.busy):
            found = self._find()
            return None if found is None else found.lease.owner
        return None

    @property
    def token(self) -> str:
        """A random id of this holder of the lease; empty before it was ever held."""
        return self._lease.owner.token if self._lease is not None and self._lease.owner is not None else ""

    def remove(self) -> None:
        """Remove the lease that this object holds, or nobody: then it is taken first, so that nobody else takes it.

        Raises:
            LeaseLostError: when this object held it, and has lost it.
        """
        if self._thread is not None:
            self._stop()
            self.check()
            _held.discard(self.token)
            self._objects.remove(LEASE)
            return
        found = self._find()
        if found is None or found.lease.owner is not None:
            return
        lease = replace(found.lease, owner=Owner.of_this_process(), renewed_at=now_text())
        if self._objects.put_if(LEASE, lease.dump(), found.version) is not None:
            self._objects.remove(LEASE)

    # For what it is about.

    def check_conditional_puts(self) -> None:
        """Check that the store refuses puts whose condition does not hold.

        Raises:
            StreamError: when it does not.
        """
        self._objects.check_conditional_puts()

    def last_fence(self) -> int:
        """Return the largest fence that is known from elsewhere; 0 when there is none."""
        return 0

    def take_over(self) -> None:
        """Do what is to be done when the lease, which this object has now, was somebody else's who died."""

    # Taking it.

    def _take(self, found: FoundLease | None, fence: int) -> None:
        owner = Owner.of_this_process()
        lease = LeaseRecord(fence, owner, LEASE_SECONDS, renewed_at=now_text())
        version = self._objects.put_if(LEASE, lease.dump(), found.version if found else None)
        if version is None:
            now = self._find()
            raise self.busy(self._busy(now.lease if now else None))
        self.fence, self._lease, self._version, self._lost = fence, lease, version, None
        _held.add(owner.token)

    def _left_by_the_dead(self, found: FoundLease) -> FoundLease | None:
        """Return the lease of somebody else when it has run out; wait for that. Raises `busy` when it is renewed."""
        owner = found.lease.owner
        assert owner is not None
        if _is_gone(owner):
            return found
        if owner.is_this_process:
            raise self.busy(self._busy(found.lease))
        deadline, is_told = time.monotonic() + found.lease.seconds, False
        while time.monotonic() < deadline:
            time.sleep(found.lease.seconds / 20)
            now = self._find()
            if now is None or now.lease.owner is None:
                return now
            if now.version != found.version:
                raise self.busy(self._busy(now.lease))
            if not is_told and time.monotonic() > deadline - found.lease.seconds / 2:  # it should have been renewed
                is_told = True
                warn(
                    f"{self._name} was being {self.doing} by {owner}, who gives no sign of life; waiting up to "
                    f"{found.lease.seconds / 2:.0f} s until its lease has run out",
                    ResumeWarning,
                )
        return found

    def _log_taken(self, found: FoundLease | None) -> None:
        """Log whose lease this was, when it was not known to be dead."""
        if found is not None and found.lease.owner is not None and not _is_gone(found.lease.owner):
            logging.getLogger("llm_datagen").warning(
                f"{self._name} was taken over from {found.lease.owner}, who gave no sign of life for "
                f"{found.lease.seconds:.0f} s"
            )

    # Keeping it.

    def _renew(self, is_over: threading.Event) -> None:
        """Renew it until it is given back, or lost. In the thread of the lease."""
        failing_since: float | None = None
        self._interrupt.use()
        while not is_over.wait(LEASE_SECONDS / 3):
            began = time.monotonic()
            try:
                with self._putting:
                    if self._lease is not None:
                        self._put(self._lease)
                failing_since = None
            except LeaseLostError as error:
                self._lost = error
                return
            except Interrupted:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, its holder must not go on for long without
                failing_since = failing_since or began
                if time.monotonic() - failing_since >= LEASE_SECONDS:
                    self._lost = LeaseLostError(
                        f"{self._name}: its lease could not be renewed for {LEASE_SECONDS:.0f} s: {error}. Everything "
                        f"committed is kept; {self.after_loss} when the store can be reached"
                    )
                    return

    def _put(self, lease: LeaseRecord) -> None:
        """Put the lease as it is to be now. Raises LeaseLostError when it is somebody else's by now."""
        self.check()
        lease = replace(lease, renewals=lease.renewals + 1, renewed_at=now_text())
        version = self._objects.put_if(LEASE, lease.dump(), self._version)
        if version is None:
            now = self._find()
            if now is None or now.lease.owner is None or now.lease.owner.token != self.token:
                by = f" by {now.lease.owner}" if now and now.lease.owner else ""
                raise LeaseLostError(
                    f"{self._name} was taken over{by}: this process gave no sign of life for {LEASE_SECONDS:.0f} s. It "
                    "can save nothing of it any more; whatever it had committed is kept"
                )
            version = now.version
        self._lease, self._version = lease, version

    def _stop(self) -> None:
        if self._thread is not None:
            self._is_over.set()
            interrupt = waiting.interrupt()
            if interrupt is not None and interrupt.seconds is not None:  # who ends it has no time
                self._interrupt.hurry(interrupt.seconds)
            self._thread.join()
            self._thread = None

    def _give_back(self) -> None:
        _held.discard(self.token)
        with self._putting:
            if self._lease is None or self._lost is not None:
                return
            given = replace(self._lease, owner=None, renewals=self._lease.renewals + 1)
            try:
                self._objects.put_if(LEASE, given.dump(), self._version)
            except (DatagenError, Interrupted) as error:
                logging.getLogger("llm_datagen").warning(
                    f"{self._name}: its lease could not be given back, so it keeps other hosts out for up to "
                    f"{self._lease.seconds:.0f} s more: {str(error) or 'the store does not answer'}"
                )

    def _find(self) -> FoundLease | None:
        """Return the lease as it lies there. Raises `busy` when it cannot be read: it may be of a later version."""
        found = self._objects.read(LEASE)
        if found is None:
            return None
        try:
            return FoundLease(LeaseRecord.parse(found[0]), found[1])
        except (ValueError, KeyError, TypeError) as error:
            raise self.busy(
                f"{self._objects.uri}/{LEASE} is no lease that this version can read: {error}; use the version that "
                "made it, or remove it if nobody has it"
            ) from None

    def _busy(self, lease: LeaseRecord | None) -> str:
        by = f" by {lease.owner}" if lease is not None and lease.owner is not None else ""
        return f"{self._name} is being {self.doing}{by}; {self.hint}"


def _is_gone(owner: Owner) -> bool:
    """Return whether an owner is known to have it no more."""
    return owner.is_dead or (owner.is_this_process and owner.token not in _held)
