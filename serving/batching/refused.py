"""What was refused a moment ago, so that the same is refused again for less than it takes to serve it."""

from collections.abc import Sequence

from serving.batching.forecast import Place
from serving.batching.tickets import Row

MOST_REMEMBERED = 16


class Refusals:
    """Tickets that were refused since the present calls began: what asks for no less needs no timetable.

    Under overload most of what comes is refused.
    """

    def __init__(self) -> None:
        self._known: list[tuple[int, int, int, int, int]] = []
        self._away_until_ns: dict[int, int] = {}  # by how many rows would run together

    def forget(self) -> None:
        """Start anew: there is less work now, or it is known better."""
        self._known.clear()
        self._away_until_ns.clear()

    def note(self, rows: Sequence[Row], place: Place, *, now_ns: int, together: int) -> None:
        """Remember a ticket that was refused, by its rows, its place, and the rows that would be live with it."""
        if place.away_ns:
            self._away_until_ns[together] = now_ns + place.away_ns
        elif len(self._known) < MOST_REMEMBERED:
            self._known.append((*_demand(rows), rows[0].ticket.deadline_ns + place.late_ns))

    def late_ns(self, rows: Sequence[Row], *, now_ns: int, together: int) -> int:
        """Return by how much a ticket would be late or how long it must stay away, at least; 0 if that is not known.

        Args:
            rows: of the ticket.
            now_ns: the time.
            together: rows that would be live with it.
        """
        away_ns = self._away_until_ns.get(together, 0) - now_ns
        if away_ns > 0:
            return away_ns
        done_ns = 0
        if self._known:
            key_ns, longest, count, steps = _demand(rows)
            for least_key_ns, least_longest, least_count, least_steps, known_ns in self._known:
                if (
                    least_key_ns <= key_ns
                    and least_longest <= longest
                    and least_count <= count
                    and least_steps <= steps
                ):
                    done_ns = max(done_ns, known_ns)
        return max(0, done_ns - rows[0].ticket.deadline_ns)


def _demand(rows: Sequence[Row]) -> tuple[int, int, int, int]:
    """Return a ticket's urgency, its longest row, its rows and its steps: the less of each, the sooner it is done."""
    lengths = [row.length for row in rows]
    return min([row.order[0] for row in rows]), max(lengths), len(lengths), sum(lengths)
