"""How much each client has used in the last minute: requests, bytes, or seconds."""

import threading
from collections import defaultdict, deque
from ipaddress import IPv6Address, ip_address, ip_network


WINDOW_SECONDS = 60.0
CLEAN_UP_EVERY = 1000  # uses; then clients without one in the last minute are dropped from memory


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
