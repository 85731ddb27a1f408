"""The sums of a grant pack, of the numbers in its tables alone: made so when it is written, and when it is verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .blurs import in_order, reasons_cell
from .figures import KNOWN_COVERAGE, MS_PER_HOUR

MS = 1000

QUARTER_HOUR_MS = 900_000

FORMULAS: Mapping[str, str] = {
    "listening_hours": "TLH: sum of listening_ms / 3600000",
    "person_hours": "sum of person_ms / 3600000: who hears two streams at once listens once",
    "average_audience": "AAS: sum of listening_ms / elapsed milliseconds of the period, gaps included",
    "active_sessions": "AS: inherited of the period's first row + sum of begun",
    "started_sessions": "SS: sum of begun",
    "average_session_seconds": "ATSL: sum of listening_ms / 1000 / active_sessions",
    "average_quarter_hour": "AQH: sum of quarter_listeners / quarter-hours of the period, gaps included",
    "average_quarter_hour_in_one_piece": "sum of quarter_listeners_in_one_piece / quarter-hours of the period",
    "peak": "greatest peak",
    "peak_at_utc": "peak_at_utc of the first row with it",
    "bytes_sent": "sum of bytes_sent, where the source tells it",
    "bytes_told_share": "sum of bytes_told_ms / sum of listening_ms",
    "coverage_share": "sum of covered_ms / elapsed milliseconds of the period: the share that was observed",
    "quarter_hours": "rows",
    "provisional_quarter_hours": "rows whose is_settled is 0",
}
"""How each total is computed from quarter_hours.csv; empty where the period has no row, since nothing is known then."""

BOUNDS = (
    "with address or proxy in it person_hours, active_sessions, started_sessions and peak are at least so much and "
    "average_session_seconds at most; with source or shared listening_hours, average_audience and both quarter-hour "
    "averages are at least so much too, and average_session_seconds is no bound"
)
"""Which figures of totals.csv are bounds where listeners could not be told apart."""

MONTH_BECAUSE = (
    "each because of blurs.csv, of the stream (of (all): of any), with end_utc after the month's start and start_utc "
    f"before its end, where there are figures: {BOUNDS}"
)

DIFFUSION_BECAUSE = (
    "each because of blurs.csv, of any stream, with end_utc after the diffusion's start_utc and start_utc before its "
    "end, length_ms later: with address or proxy in it distinct_listeners, sessions, peak, tuned_in and tuned_out are "
    "at least so much, with source or shared listening_ms too"
)

PROGRAM_FORMULAS: Mapping[str, str] = {
    "diffusions": "rows of the program",
    "diffusions_with_figures": "of these, rows with listening_ms",
    "listening_hours": "sum of listening_ms / 3600000",
    "average_audience": "sum of listening_ms / sum of length_ms, of the rows with a coverage_share of 0.5 or more",
    "peak": "greatest peak",
    "at_least_because": "each at_least_because of the rows: with address or proxy in it the peak is at least so much, "
    "with source or shared listening_hours and average_audience too",
}
"""How each column of programs.csv is computed from diffusions.csv."""

Value = float | int | str | None


@dataclass(slots=True, kw_only=True)
class QuarterSums:
    """Quarter-hours of one stream, or of all together, added up in the order of time."""

    rows: int = 0
    provisional: int = 0
    listening_ms: int = 0
    person_ms: int = 0
    inherited: int = 0
    begun: int = 0
    quarter_listeners: int = 0
    in_one_piece: int = 0
    peak: int = 0
    peak_at: str = ""
    bytes_sent: int = 0
    bytes_told_ms: int = 0
    covered_ms: int = 0

    def add(self, row: Mapping[str, int], peak_at: str) -> None:
        if not self.rows:
            self.inherited = row["inherited"]
        self.rows += 1
        self.provisional += not row["is_settled"]
        self.listening_ms += row["listening_ms"]
        self.person_ms += row["person_ms"]
        self.begun += row["begun"]
        self.quarter_listeners += row["quarter_listeners"]
        self.in_one_piece += row["quarter_listeners_in_one_piece"]
        self.bytes_sent += row["bytes_sent"]
        self.bytes_told_ms += row["bytes_told_ms"]
        self.covered_ms += row["covered_ms"]
        if row["peak"] > self.peak:
            self.peak, self.peak_at = row["peak"], peak_at

    def figures(self, elapsed_ms: int) -> dict[str, Value]:
        """By the names of FORMULAS; None where nothing is known."""
        if not self.rows or elapsed_ms <= 0:
            return dict.fromkeys(FORMULAS) | {"coverage_share": 0.0, "quarter_hours": 0}
        active = self.inherited + self.begun
        quarters = elapsed_ms / QUARTER_HOUR_MS
        told = self.bytes_told_ms / self.listening_ms if self.listening_ms else None
        return {
            "listening_hours": self.listening_ms / MS_PER_HOUR,
            "person_hours": self.person_ms / MS_PER_HOUR,
            "average_audience": self.listening_ms / elapsed_ms,
            "active_sessions": active,
            "started_sessions": self.begun,
            "average_session_seconds": self.listening_ms / MS / active if active else None,
            "average_quarter_hour": self.quarter_listeners / quarters,
            "average_quarter_hour_in_one_piece": self.in_one_piece / quarters,
            "peak": self.peak,
            "peak_at_utc": self.peak_at or None,
            "bytes_sent": self.bytes_sent if self.bytes_told_ms else None,
            "bytes_told_share": told,
            "coverage_share": self.covered_ms / elapsed_ms,
            "quarter_hours": self.rows,
            "provisional_quarter_hours": self.provisional,
        }


@dataclass(slots=True, kw_only=True)
class ProgramSums:
    """Diffusions of one program added up."""

    title: str = ""
    diffusions: int = 0
    computed: int = 0
    listening_ms: int = 0
    known_listening_ms: int = 0
    known_length_ms: int = 0
    peak: int = 0
    because: set[str] = field(default_factory=set)

    def add(
        self,
        title: str,
        length_ms: int,
        listening_ms: int | None,
        peak: int | None,
        coverage: float | None,
        because: Iterable[str],
    ) -> None:
        self.title = title or self.title
        self.diffusions += 1
        self.because.update(because)
        if listening_ms is None:
            return
        self.computed += 1
        self.listening_ms += listening_ms
        self.peak = max(self.peak, peak or 0)
        if coverage is not None and coverage >= KNOWN_COVERAGE:
            self.known_listening_ms += listening_ms
            self.known_length_ms += length_ms

    def figures(self) -> dict[str, Value]:
        """By the names of PROGRAM_FORMULAS."""
        return {
            "diffusions": self.diffusions,
            "diffusions_with_figures": self.computed,
            "listening_hours": self.listening_ms / MS_PER_HOUR if self.computed else None,
            "average_audience": self.known_listening_ms / self.known_length_ms if self.known_length_ms else None,
            "peak": self.peak if self.computed else None,
            "at_least_because": reasons_cell(in_order(self.because)),
        }
