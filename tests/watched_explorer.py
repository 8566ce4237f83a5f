"""`hf-clipselect` in a process that writes down every address that it asks for or connects to.

    python watched_explorer.py FILE explore ...

Ctrl-C reaches it also where the tests run in the background of a shell, which ignores it there.
"""

import signal
import sys
from typing import Any


def watch(path: str) -> None:
    sockets = open(path, "a", buffering=1)

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            sockets.write(f"{details[1][0] if isinstance(details[1], tuple) else 'local'}\n")
        elif event == "socket.getaddrinfo":
            sockets.write(f"{details[0]}\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch(sys.argv[1])
    from hf_clipselect.cli import main

    sys.argv[1:] = sys.argv[2:]
    sys.exit(main())
