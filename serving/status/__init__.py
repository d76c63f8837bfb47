"""`lstm-serve status HOST`: what a running server does, in a terminal. A client: it asks by RPCs and reads `/metrics`.

figures (samples to figures, pure), target (whom to ask, and as whom), calls (the RPCs), diagnosis (why there is no
connection), page (`/metrics`), looking (one look at all of it), view (what is said of it, in words), drawing (rich),
command (arguments to an exit code). Nothing here needs rich but `drawing`.
"""

from serving.status.command import main, parser

__all__ = ["main", "parser"]
