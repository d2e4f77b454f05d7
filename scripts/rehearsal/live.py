"""A client of the WebSocket API, which keeps the frames that it gets."""
import json
import time

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from .processes import check

PROTOCOL = "chat.v1"
# Seconds in which an event or a response must arrive. MiniStack looks for records of a stream about once a second.
WAIT_LIMIT = 30


class LiveClient:
    """A connection. MiniStack does not select a protocol, so that is not checked.

    `received` has what has arrived and was not asked for yet: control frames, and each event by itself.
    """

    def __init__(self, url, token, headers=None):
        self.socket = connect(
            url, subprotocols=[PROTOCOL, token] if token else [PROTOCOL], additional_headers=headers or {},
            open_timeout=WAIT_LIMIT, proxy=None, legacy=True,
        )
        self.received = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, frame):
        self.socket.send(json.dumps(frame))

    def next(self, kind):
        """The next event or control frame of a type."""
        deadline = time.monotonic() + WAIT_LIMIT
        while True:
            for item in self.received:
                if item.get("type") == kind:
                    self.received.remove(item)
                    return item
            try:
                frame = json.loads(self.socket.recv(max(0, deadline - time.monotonic())))
            except (TimeoutError, ConnectionClosed) as error:
                check(False, f"no {kind} arrived within {WAIT_LIMIT} seconds ({error!r}), only: {self.received}")
            self.received += frame.get("events", [frame])


def is_refused(url, token, headers=None):
    """Whether a handshake is refused."""
    try:
        LiveClient(url, token, headers).socket.close()
    except InvalidHandshake:
        return True
    return False
