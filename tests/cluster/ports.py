"""TCP ports on this machine: free ones for servers on loopback, and whether a fixed one is taken."""

import random
import socket
from types import TracebackType


def is_free(port: int) -> bool:
    """Whether nothing listens on the port, on any address; a closed connection that lingers does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class FreePort:
    """A free port below the range for outgoing connections, that no other FreePort on the machine holds.

    Its claim is an abstract Unix socket, which the kernel drops with its owner.
    """

    def __init__(self) -> None:
        for _ in range(100):
            self.number = random.randrange(11000, 30000)
            self._claim = socket.socket(socket.AF_UNIX)
            try:
                self._claim.bind(f"\0strop-port-{self.number}")
            except OSError:
                self._claim.close()
                continue
            if is_free(self.number):
                return
            self._claim.close()
        raise OSError("no free port between 11000 and 30000")

    def release(self) -> None:
        """Let others have it."""
        self._claim.close()

    def __enter__(self) -> "FreePort":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
