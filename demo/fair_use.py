"""What each client may use of the demo, what it has used, whose turn it is, and what a client is told that gets no answer.

One client takes at most half of the places to wait and all but one of those to run, so that it cannot keep all others waiting.

A client whose pictures take long is answered while nobody else has to wait. What its pictures take of the demo's time is its
debt, which is paid as time passes. Whoever owes much begins with its next picture only when no other visitor had to wait for the
last `CALM_SECONDS`, or when enough is paid. So all that it takes from others who wait is `PAID_PER_SECOND` in the long run,
however it spreads its work over pictures. A demo that has time for everybody answers it at once.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from model.errors import AgeGenderError, PictureError


BUSY = "The demo is busy. Try again in a moment."

WINDOW_SECONDS = 60.0
CLEAN_UP_EVERY = 1000  # uses; then clients without one in the last minute, or without a debt, are dropped from memory

HEAVY_SECONDS = 3.0  # of debt, from which on a client comes after others
PAID_PER_SECOND = 0.05  # of debt: 3 seconds a minute
MOST_OWED = 60.0  # seconds: whoever has asked for hours while nobody waited need not pay for all of it
WAITED_SECONDS = 0.5  # a turn that comes no later than this was not waited for
CALM_SECONDS = 5.0  # after somebody has waited: visitors who ask again and again leave gaps between their pictures


class BusyError(AgeGenderError):
    """There was no place in time."""

    def __init__(self) -> None:
        super().__init__(BUSY)


class TooOftenError(AgeGenderError):
    """The client has used up what it may use in a minute, and may ask again after `wait_seconds`."""

    def __init__(self, text: str, wait_seconds: int):
        super().__init__(text)
        self.wait_seconds = wait_seconds


class TooCostlyError(PictureError):
    """The picture takes more time or memory to decode than one picture may."""


def kind_of(error: AgeGenderError) -> str:
    """What the page chooses its sentence by, for pictures and for frames of a webcam alike."""
    kinds = (
        (BusyError, "busy"),
        (TooOftenError, "too_often"),
        (TooCostlyError, "too_costly"),
        (PictureError, "picture"),
    )
    return next((kind for of, kind in kinds if isinstance(error, of)), "option")


class MinuteMeter:
    """Amounts of each client in a minute that slides. Threads may share it."""

    def __init__(self) -> None:
        self._uses: defaultdict[str, deque[tuple[float, float]]] = defaultdict(deque)  # client key -> (time, amount)
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._until_clean_up, self._lock = CLEAN_UP_EVERY, threading.Lock()

    def wait_seconds(self, key: str, now: float, limit: float, amount: float = 0.0) -> int | None:
        """Seconds until the client may use `amount`; None where it may now: its sum is below `limit`, and not above after."""
        with self._lock:
            self._forget_before(key, now - WINDOW_SECONDS)
            excess = self._sums[key] + amount - limit
            if excess < 0 or (excess == 0 and amount):
                return None
            for time, used in self._uses[key]:
                excess -= used
                if excess <= 0:
                    return int(time + WINDOW_SECONDS - now) + 1
            return int(WINDOW_SECONDS)  # a single use of more than the limit

    def add(self, key: str, now: float, amount: float) -> None:
        with self._lock:
            self._until_clean_up -= 1
            if self._until_clean_up <= 0:
                self._until_clean_up = CLEAN_UP_EVERY
                for other in list(self._uses):
                    self._forget_before(other, now - WINDOW_SECONDS)
                    if not self._uses[other]:
                        del self._uses[other], self._sums[other]
            self._uses[key].append((now, amount))
            self._sums[key] += amount

    def _forget_before(self, key: str, start: float) -> None:
        uses = self._uses[key]
        while uses and uses[0][0] < start:
            self._sums[key] -= uses.popleft()[1]
        if not uses:
            self._sums[key] = 0.0  # without what rounding has left


def client_key(host: str) -> str:
    """The client key: an IPv4 address, or the /64 prefix of an IPv6 address, in which one client can choose its addresses."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)


@dataclass(frozen=True)
class Visitor:
    """Who is being answered: the client's key, and whether it has closed its connection."""

    key: str = ""
    is_gone: Callable[[], bool] = lambda: False


NOBODY = Visitor()
visitor: ContextVar[Visitor] = ContextVar("visitor", default=NOBODY)  # set around each of the page's functions


def most_running(places: int) -> int:
    """Of one client, of so many places to run."""
    return max(1, places - 1)


def most_waiting(places: int) -> int:
    """Of one client, of so many places to wait."""
    return max(1, places // 2)


class Turns:
    """Debts of clients, and when others last had to wait. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._debts: dict[str, tuple[float, float]] = {}  # client key -> (time, seconds that it owed then)
        self._until_clean_up, self._calm_from = CLEAN_UP_EVERY, clock()

    def spend(self, key: str, seconds: float) -> None:
        """Add what a client's picture took to its debt."""
        with self._lock:
            self._until_clean_up -= 1
            if self._until_clean_up <= 0:
                self._until_clean_up = CLEAN_UP_EVERY
                self._debts = {other: debt for other, debt in self._debts.items() if self._owed(other) > 0}
            self._debts[key] = self._clock(), min(self._owed(key) + seconds, MOST_OWED)

    def owed_seconds(self, key: str) -> float:
        with self._lock:
            return self._owed(key)

    @property
    def known_clients(self) -> int:
        return len(self._debts)

    def comes_after_others(self, key: str) -> bool:
        return self.owed_seconds(key) > HEAVY_SECONDS

    def may_begin(self, key: str) -> bool:
        """Whether it is the client's turn as soon as there is a place for it."""
        return self._clock() >= self._calm_from or not self.comes_after_others(key)

    def note_wait(self, key: str, seconds: float) -> None:
        """A client's turn has come after so long."""
        if seconds > WAITED_SECONDS and not self.comes_after_others(key):
            self._calm_from = self._clock() + CALM_SECONDS

    def _owed(self, key: str) -> float:
        since, seconds = self._debts.get(key, (0.0, 0.0))
        return max(seconds - (self._clock() - since) * PAID_PER_SECOND, 0.0)


TURNS = Turns()
