"""Exit code 0 if the server of this container is ready, 1 if it is not: for Docker's HEALTHCHECK."""  # noqa: INP001  a script of its own in the image

import http.client
import os
import sys

TIMEOUT_SECONDS = 2.0
"""Below the timeout of HEALTHCHECK, so that the reason is still printed."""


def main() -> int:
    """Ask `/readyz` on the port that the server's own variable names (a port given by a flag is not seen here)."""
    port = int(os.environ.get("LSTM_SERVE_METRICS_PORT", "8002"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode().strip()
    except OSError as error:
        sys.stdout.write(f"nobody answers on port {port}: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
