"""HLS behind nginx: what a request means, who plays, and listening as the union of windows.

Run with ``-s`` to read the tables of errors.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.errors import ConfigurationError, MalformedRecord
from aircox_listen_stats.kernel.sessionize import TWIN_MS
from aircox_listen_stats.kernel.types import Observation
from aircox_listen_stats.models import Connection, Session, SourceState, Stream
from aircox_listen_stats.pipeline import ingest, recognise, secrets
from aircox_listen_stats.sources.hls import HlsSource, groups, parse_line, part_of, rendition_name
from aircox_listen_stats.sources.segments import Fetch, Shelf, Stretch, Stretches
from tests.sources import hls_run
from tests.sources.hls_run import FOLDER, MASTER, MS

NOW_MS = 1_795_313_500_000
JSON_LOG = FOLDER / "nginx_hls_json.log"
COMBINED_LOG = FOLDER / "nginx_hls_combined.log"
REASONS = {"too_long", "json", "stamp", "status", "bytes", "duration", "ip", "malformed"}
GROUPS = groups(MASTER)


def record(uri: str = "/hls/hi_12.ts", at: float = 1_795_313_000.0, **more: Any) -> bytes:
    """A line of the JSON format."""
    return json.dumps(
        {
            "msec": f"{at:.3f}",
            "remote_addr": "192.0.2.7",
            "method": "GET",
            "uri": uri,
            "args": "",
            "status": 200,
            "body_bytes_sent": 60_000,
            "request_time": "0.000",
            "completion": "OK",
            "session": "",
            "range": "",
            "agent": "hls.js/1.5",
            **more,
        }
    ).encode()


def combined(
    target: str = "/hls/hi_12.ts", *, agent: str = "hls.js/1.5", status: int = 200, sent: int = 60_000, tail: str = ""
) -> bytes:
    """A line of the combined format."""
    stamp = "22/Nov/2026:02:07:31 +0000"
    return f'192.0.2.7 - - [{stamp}] "GET {target} HTTP/1.1" {status} {sent} "-" "{agent}"{tail}'.encode("latin-1")


# Lines ----------------------------------------------------------------------------------------------


def test_both_formats_of_one_request_say_the_same_but_for_milliseconds_and_header() -> None:
    pairs = list(zip(JSON_LOG.read_bytes().splitlines(), COMBINED_LOG.read_bytes().splitlines(), strict=True))
    assert len(pairs) == 666
    for one, other in pairs:
        rich, plain = parse_line(one), parse_line(other)
        assert (rich.method, rich.path, rich.status, rich.bytes_sent) == (
            plain.method,
            plain.path,
            plain.status,
            plain.bytes_sent,
        )
        assert rich.address == plain.address
        assert abs(rich.ended_ms - plain.ended_ms) <= MS
        assert plain.session in ("", rich.session)


def test_every_malformed_line_is_refused_with_its_reason() -> None:
    reasons = []
    for one in (FOLDER / "malformed.log").read_bytes().splitlines():
        with pytest.raises(MalformedRecord) as caught:
            parse_line(one)
        assert "192.0.2" not in str(caught.value)
        reasons.append(caught.value.reason)
    assert reasons == [
        *("json", "json", "stamp", "stamp", "stamp", "ip", "status", "status", "bytes", "bytes", "duration", "json"),
        *("malformed", "malformed", "stamp", "malformed", "malformed", "malformed"),
    ]


def test_a_session_is_the_header_else_the_argument() -> None:
    args = "u=1&sid=abc%2D1"
    assert parse_line(record(session="head", args=args)).session == "head"
    assert parse_line(record(args=args)).session == "abc-1"
    assert parse_line(record(args=args), session_argument="u").session == "1"
    assert parse_line(record(session="-", args="nosid=1")).session == ""
    assert parse_line(combined("/hls/hi_1.ts?u=1&sid=abc-1")).session == "abc-1"


def test_numbers_may_be_quoted_or_missing() -> None:
    said = parse_line(record(at=1_795_313_000.25, status="206", body_bytes_sent="17", request_time=0.5))
    assert (said.ended_ms, said.status, said.bytes_sent, said.duration_ms) == (1_795_313_000_250, 206, 17, 500)
    bare = parse_line(record(body_bytes_sent="-", request_time=""))
    assert (bare.bytes_sent, bare.duration_ms) == (None, 0)


def test_agents_keep_their_odd_bytes_in_both_formats() -> None:
    raw = record(agent="AGENT").replace(b"AGENT", b'R\xe4dio \\"1\\"')
    assert parse_line(raw).address.agent == 'Rädio "1"'
    assert parse_line(combined(agent=r"R\xC3\xA4dio \x221\x22")).address.agent == 'Rädio "1"'
    assert parse_line(combined(agent="-")).address.agent == ""


def test_the_combined_format_may_go_on_with_the_forwarded_address() -> None:
    assert parse_line(combined(tail=' "203.0.113.9, 198.51.100.1" 0.004')).forwarded == "203.0.113.9, 198.51.100.1"
    assert parse_line(combined(tail=' "-"')).forwarded == ""


def test_of_a_referrer_the_host_is_kept_and_where_none_is_logged_nothing_is_known() -> None:
    assert parse_line(record(referer="https://radio.example/live?u=1")).referrer == "radio.example"
    assert parse_line(record(referer="")).referrer == "-"
    assert parse_line(record()).referrer is None
    assert parse_line(combined()).referrer == "-"
    assert parse_line(combined().replace(b'"-"', b'"https://radio.example/live"', 1)).referrer == "radio.example"


def test_no_line_shows_whose_it_is() -> None:
    assert "192.0.2" not in repr(parse_line(record(session="secret")))


@settings(max_examples=300)
@given(
    st.sampled_from([*JSON_LOG.read_bytes().splitlines()[::40], *COMBINED_LOG.read_bytes().splitlines()[::40]]),
    st.integers(0, 500),
    st.integers(0, 20),
    st.binary(max_size=20),
)
def test_any_damage_to_a_line_is_read_or_refused_with_a_known_reason(
    good: bytes, place: int, cut: int, bytes_: bytes
) -> None:
    assert _reason(good[:place] + bytes_ + good[place + cut :]) in REASONS | {""}


@given(st.binary(max_size=400))
def test_no_bytes_at_all_break_the_parser(bytes_: bytes) -> None:
    assert _reason(bytes_) in REASONS | {""}
    assert _reason(b"{" + bytes_) in REASONS | {""}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(json.loads(record()))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4))
def test_any_values_in_the_fields_are_read_or_refused_with_a_known_reason(values: dict[str, Any]) -> None:
    assert _reason(json.dumps({**json.loads(record()), **values}).encode()) in REASONS | {""}


def _reason(line: bytes) -> str:
    """Why the line is refused; what is read must be fit for everything that follows."""
    try:
        said = parse_line(line)
    except MalformedRecord as error:
        return error.reason
    part_of(said, GROUPS)
    made = HlsSource("hls", MASTER, {"path": "/nowhere", "target_seconds": 3})
    hearing = made.hearing({}, now_ms=NOW_MS)
    hearing.hear(line)
    assert made.open_part(line)
    assert sum(count for name, count in hearing.counts.items() if name != "read") == 1
    json.dumps(hearing.stretches.remembered())  # type: ignore[attr-defined]
    return ""


def test_an_endless_line_is_refused_in_bounded_time() -> None:
    for hostile in (b'"' * 60_000, b"1 - - [" + b'"\\' * 30_000, b"{" * 60_000, b"[" * 60_000, b"x" * 70_000):
        assert _reason(hostile) in REASONS


# What is listening ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (record("/hls/live.m3u8"), ("live", None, True)),
        (record("/hls/live.m3u8", status=304, body_bytes_sent=0), ("live", None, True)),
        (record("/hls/live.m3u8", status=206, range="bytes=0-"), ("live", None, True)),
        (record("/hls/live.m3u8", status=206, range="bytes=0-9"), "probe"),
        (record("/hls/hi.m3u8"), "playlist"),
        (record("/hls/hi_12.ts"), ("live", 12, True)),
        (record("/hls/a/b/seg-00012.m4s"), ("live", 12, True)),
        (record("/hls/hi_12.ts", status=206, range="bytes=0-"), ("live", 12, True)),
        (record("/hls/hi_12.ts", status=206, range="bytes=1000-"), ("live", 12, False)),
        (record("/hls/hi_12.ts", status=206, range="bytes=0-50000"), ("live", 12, False)),
        (record("/hls/hi_12.ts", status=206, range="bytes=0-1"), "probe"),
        (record("/hls/hi_12.ts", range="bytes=0-1"), ("live", 12, True)),  # the server gave all of it
        (record("/hls/hi_12.ts", completion=""), ("live", 12, False)),
        (record("/hls/hi_12.ts", status=304, body_bytes_sent=0), ("live", 12, False)),
        (record("/hls/hi_12.ts", body_bytes_sent=0), "nothing_sent"),
        (record("/hls/hi_12.ts", method="HEAD"), "method"),
        (record("/hls/live.m3u8", method="HEAD"), "method"),
        (record("/hls/hi_12.ts", status=404), "status_404"),
        (record("/hls/hi_12.ts", status=499), "status_499"),
        (record("/hls/hi_12.ts", status=503), "status_503"),
        (record("/hls/hi_12.ts", status=416), "status_416"),
        (record("/hls/init.mp4"), "no_segment"),
        (record("/hls/hi_init_1.mp4"), "no_segment"),
        (record("/hls/cover.jpg"), "other_file"),
        (record("/hls2/hi_12.ts"), "other_path"),
        (record("/hls/../hls2/hi_12.ts"), "other_path"),
        (combined("//hls//hi_12.ts"), ("live", 12, True)),
        (combined("/hl%73/hi_12.ts"), ("live", 12, True)),
        (combined(status=206, sent=60_000), ("live", 12, True)),
        (combined(status=206, sent=2), "probe"),
        (combined("/hls/live.m3u8", status=206, sent=154), ("live", None, True)),
    ],
)
def test_what_is_listening_and_why_the_rest_is_not(line: bytes, expected: Any) -> None:
    part, reason = part_of(parse_line(line), GROUPS)
    assert (reason if part is None else (part.stream, part.number, part.is_whole)) == expected


def test_a_mount_is_a_master_playlist_or_a_folder_and_the_deepest_wins() -> None:
    known = groups({"/hls/live.m3u8": "live", "/hls/jazz/": "jazz", "pop": "pop"})
    found = {
        path: part.stream
        for path in ("/hls/hi_1.ts", "/hls/jazz/hi_1.ts", "/pop/hi_1.ts", "/popular/hi_1.ts")
        if (part := part_of(parse_line(record(path)), known)[0])
    }
    assert found == {"/hls/hi_1.ts": "live", "/hls/jazz/hi_1.ts": "jazz", "/pop/hi_1.ts": "pop"}


def test_two_streams_in_one_folder_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="a folder of its own"):
        groups({"/hls/a.m3u8": "a", "/hls/b.m3u8": "b"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "/x"},
        {"path": "/x", "target_seconds": 0.5},
        {"path": "/x", "target_seconds": 61},
        {"path": "/x", "target_seconds": 3, "segment_seconds": 61},
        {"path": "/x", "target_seconds": 3, "delay_seconds": -1},
        {"path": "x", "target_seconds": 3},
        {"path": "/x", "target_seconds": "3"},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        HlsSource("hls", MASTER, options)


# Who plays, and how long ----------------------------------------------------------------------------

TARGET = 3
HI, LO = 1, 2


def play(fetches: Iterable[tuple[float, int, int | None]], *, named: bool = False, **more: Any) -> Stretches:
    """The stretches after these (second, rendition, number); all of one visitor."""
    stretches = Stretches({}, target_ms=TARGET * MS)
    hear(stretches, fetches, named=named, **more)
    return stretches


def hear(
    stretches: Stretches, fetches: Iterable[tuple[float, int, int | None]], *, named: bool = False, **more: Any
) -> None:
    told = stretches.__dict__.setdefault("told", {})
    for second, rendition, number in fetches:
        for one in stretches.take(
            Fetch(
                visitor="v",
                is_named=named,
                stream="live",
                at_ms=round(second * MS),
                rendition=rendition,
                number=number,
                bytes_sent=1 if number is not None else 0,
                **more,
            )
        ):
            told[one.client] = one


def spans(stretches: Stretches) -> list[tuple[float, float]]:
    """(start, end) of every stretch, in seconds."""
    told: dict[int, Stretch] = stretches.__dict__["told"]
    return [(one.started_ms / MS, one.end_ms(TARGET * MS) / MS) for one in told.values()]


def steady(since: float, until: float, rendition: int = HI, *, burst: int = 3, phase: float = 0.0) -> list[Any]:
    """A player of segments of three seconds: some at once, then one in each refresh."""
    first = int(since // TARGET) + 10
    made = [(since, rendition, first - back) for back in range(burst - 1, -1, -1)]
    second, number = since + TARGET, first + 1
    while second < until:
        made.append((second + phase, rendition, number))
        second, number = second + TARGET, number + 1
    return made


def assert_near(found: Sequence[tuple[float, float]], true: Sequence[tuple[float, float]]) -> None:
    """As many as there are, each bound within a target duration of the truth."""
    assert len(found) == len(true)
    for one, other in zip(found, true, strict=True):
        assert one == pytest.approx(other, abs=TARGET)


def mixed(*some: Sequence[Any]) -> list[Any]:
    return sorted((one for several in some for one in several), key=lambda one: one[0])


def test_listening_is_the_union_of_windows_and_not_the_count_of_segments() -> None:
    assert spans(play([(0, HI, None), (0, HI, 9), (0, HI, 10), (0, HI, 11), (3, HI, 12)])) == [(0, 6)]


def test_a_master_playlist_alone_is_an_empty_stretch_and_its_segments_belong_to_it() -> None:
    assert spans(play([(0, HI, None)])) == [(0, 0)]
    assert spans(play([(0, HI, None), (1, HI, None), (2, HI, 10)])) == [(0, 5)]


def test_a_missed_refresh_is_no_pause_and_three_targets_are_the_limit() -> None:
    assert spans(play([(0, HI, 1), (6, HI, 2), (15, HI, 5)])) == [(0, 18)]
    assert spans(play([(0, HI, 1), (9.001, HI, 4)])) == [(0, 3), (9.001, 12.001)]


def test_a_rendition_switch_stays_one() -> None:
    switching = [*steady(0, 30, LO), *((33 + 3 * n, HI, 21 + n) for n in range(10))]
    assert spans(play(switching)) == [(0, 63)]
    overlapping = [*steady(0, 30, LO), (31, HI, 18), (31, HI, 19), *((33 + 3 * n, HI, 20 + n) for n in range(10))]
    assert spans(play(overlapping)) == [(0, 63)]


def test_changing_to_and_fro_stays_one() -> None:
    fro = [(3 * n, HI if (n // 4) % 2 else LO, n) for n in range(40)]
    assert spans(play(fro)) == [(0, 120)]


def test_a_player_that_tries_both_renditions_is_one() -> None:
    """ffmpeg fetches two segments of each when it starts."""
    tries = [(0, HI, 9), (0, HI, 10), (0.01, LO, 9), (0.01, LO, 10), (0.02, HI, 11), (3, HI, 12), (6, HI, 13)]
    assert spans(play(tries)) == [(0, 9)]


@pytest.mark.parametrize("phase", [0.1, 1.4, 2.9])
def test_twins_on_one_rendition_are_two(phase: float) -> None:
    fetched = mixed(steady(0, 90), [(second + phase, HI, n) for second, _, n in steady(12, 60)])
    assert_near(spans(play(fetched)), [(0, 90), (12 + phase, 60 + phase)])


@pytest.mark.parametrize("phase", [0.1, 1.4, 2.9])
def test_twins_on_two_renditions_are_two(phase: float) -> None:
    fetched = mixed(steady(0, 90), [(second + phase, LO, n) for second, _, n in steady(12, 60)])
    assert_near(spans(play(fetched)), [(0, 90), (12 + phase, 60 + phase)])


def test_three_behind_one_address_are_three() -> None:
    fetched = mixed(
        steady(0, 90),
        [(second + 0.7, HI, n) for second, _, n in steady(12, 60)],
        [(second + 1.9, LO, n) for second, _, n in steady(21, 75)],
    )
    assert_near(sorted(spans(play(fetched))), [(0, 90), (12.7, 60.7), (22.9, 76.9)])


def test_with_a_session_id_the_same_segment_again_is_the_same_player() -> None:
    assert spans(play([(0, HI, 1), (1, HI, 1), (3, HI, 2), (4, HI, 2)], named=True)) == [(0, 7)]


def test_a_segment_asked_for_again_after_a_broken_transfer_is_no_twin() -> None:
    stretches = play([(0, HI, 1)])
    hear(stretches, [(3, HI, 2)], is_whole=False)
    hear(stretches, [(3.5, HI, 2), (6, HI, 3)])
    assert spans(stretches) == [(0, 9)]


def test_a_single_repeat_makes_no_listener_that_lasts() -> None:
    """What lasts no longer than a window beside the same ears is theirs in the stitching."""
    found = spans(play([(0, HI, 1), (3, HI, 2), (3.2, HI, 2), (6, HI, 3), (9, HI, 4), (12, HI, 5)]))
    assert found == [(0, 15), (3.2, 6.2)]


def test_an_encoder_that_counts_anew_doubles_nobody() -> None:
    """Numbers of before the restart look like a twin's; one goes on where the other ends."""
    restarted = [*steady(0, 60), *((60 + 3 * n, HI, n) for n in range(20))]
    assert spans(play(restarted)) == [(0, 84), (84, 120)]


def test_players_behind_one_address_are_bounded() -> None:
    stretches = play([(0, HI, 1)] * 100)
    assert len(spans(stretches)) == 64
    assert stretches.crowded == 36


def test_a_clock_that_was_set_begins_another_stretch() -> None:
    assert spans(play([(3600, HI, 1), (3603, HI, 2), (0, HI, 3), (3, HI, 4)])) == [(3600, 3606), (0, 6)]


def test_bytes_are_all_counted_and_follow_the_player_once_it_is_plain() -> None:
    stretches = play(mixed(steady(0, 90), [(second + 1, LO, n) for second, _, n in steady(12, 60)]))
    told = stretches.__dict__["told"]
    assert [one.bytes_sent for one in told.values()] == [32 + 5, 18 - 5]
    assert [one.delivered_ms(3000) for one in told.values()] == [37 * 3000, 13 * 3000]


def test_the_bytes_of_a_tried_rendition_are_counted_though_it_is_not_gone_on_with() -> None:
    stretches = play([(0, HI, 9), (0, HI, 10), (0.01, LO, 9), (0.01, LO, 10)])
    (one,) = stretches.__dict__["told"].values()
    assert (one.bytes_sent, one.switches) == (4, 0)


@pytest.mark.parametrize("named", [True, False])
def test_a_stretch_knows_what_was_sent_and_of_which_rendition(named: bool) -> None:
    stretches = play([(3 * n, HI, n) for n in range(4)], named=named, name="hi")
    hear(stretches, [(12 + 3 * n, LO, 4 + n) for n in range(10)], named=named, name="lo")
    hear(stretches, [(42, LO, 13)], named=named, name="lo", is_whole=False)
    hear(stretches, [(45 + 3 * n, HI, 14 + n) for n in range(3)], named=named, name="hi")
    (one,) = stretches.__dict__["told"].values()
    assert one.sent == {"hi": 7, "lo": 10}
    assert (one.name(), one.switches, one.bytes_sent) == ("lo", 2, 18)
    assert one.delivered_ms(3040) == 17 * 3040


def test_names_of_renditions_are_bounded() -> None:
    stretches = Stretches({}, target_ms=TARGET * MS)
    for number in range(40):
        hear(stretches, [(3 * number, number, number)], named=True, name=f"r{number}")
    (one,) = stretches.__dict__["told"].values()
    assert len(one.sent) == 17
    assert sum(one.sent.values()) == 40


@pytest.mark.parametrize(
    ("rendition", "name"),
    [
        ("hi_#.ts", "hi"),
        ("hi/seg-#.m4s", "hi/seg"),
        ("audio_128000/#.ts", "audio_128000"),
        ("#.ts", ""),
        ("550e8400-e29b-41d4-a716-446655440000/hi_#.ts", ""),
        ("u17953130001/hi_#.ts", ""),
        ("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/hi_#.ts", ""),
    ],
)
def test_of_a_rendition_is_kept_what_can_be_nobodys(rendition: str, name: str) -> None:
    assert rendition_name(rendition) == name


@given(st.lists(st.integers(0, 60), max_size=60))
def test_a_shelf_knows_what_was_put_on_it_lately(numbers: list[int]) -> None:
    shelf, kept = Shelf(), set()
    for number in numbers:
        if number < max(kept, default=-1) - 31:
            kept = set()
        kept = {one for one in kept | {number} if one > max(kept | {number}) - 32}
        shelf.add(number)
        assert {one for one in range(100) if shelf.has(one)} == kept


FETCHES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.booleans(),
        st.floats(0, 12),
        st.sampled_from([HI, LO]),
        st.none() | st.integers(0, 6),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(FETCHES, st.sets(st.integers(0, 60)))
def test_wherever_a_pull_cuts_the_requests_the_stretches_are_the_same(
    fetches: list[tuple[str, bool, float, int, int | None, bool]], cuts: set[int]
) -> None:
    found = []
    for cut in (set(), cuts):
        stretches, told, second = Stretches({}, target_ms=TARGET * MS), {}, 1000.0
        for index, (visitor, is_named, wait, rendition, number, is_whole) in enumerate(fetches):
            second += wait
            at_ms = round(second * MS)
            stretches.note(at_ms)
            fetch = Fetch(
                visitor=visitor + str(is_named),
                is_named=is_named,
                stream="live",
                at_ms=at_ms,
                rendition=rendition,
                number=number,
                bytes_sent=1,
                is_whole=is_whole,
            )
            for one in stretches.take(fetch):
                start_ms, end_ms, sent = told.get(one.client, (one.started_ms, 0, 0))
                told[one.client] = (
                    min(start_ms, one.started_ms),
                    max(end_ms, one.end_ms(TARGET * MS)),
                    max(sent, one.bytes_sent),
                )
            if index in cut:
                stretches = Stretches(json.loads(json.dumps(stretches.remembered())), target_ms=TARGET * MS)
        found.append(told)
    assert found[0] == found[1]


# Following ------------------------------------------------------------------------------------------


def follow(made: HlsSource, cursor: dict[str, Any], *, now_ms: int = NOW_MS) -> tuple[list[Any], dict[str, Any]]:
    """The reports until there is no more, and the cursor as a database keeps it."""
    reports = []
    for _ in range(1000):
        report = made.pull(cursor, now_ms=now_ms)
        cursor = json.loads(json.dumps(report.cursor))
        reports.append(report)
        if not report.more:
            break
    return reports, cursor


def told_by(reports: Iterable[Any]) -> dict[str, Observation]:
    known: dict[str, Observation] = {}
    for report in reports:
        hls_run.merged(known, report.observations)
    return known


@pytest.mark.parametrize("log", [JSON_LOG, COMBINED_LOG], ids=["json", "combined"])
def test_cut_at_every_line_the_log_tells_the_same(tmp_path: Path, log: Path) -> None:
    whole = told_by(follow(hls_run.source(log), {})[0])
    path = tmp_path / "hls.log"
    path.write_bytes(b"")
    made, cursor, reports = hls_run.source(path), {}, []
    for line in log.read_bytes().splitlines(keepends=True):
        with path.open("ab") as file:
            file.write(line)
        more, cursor = follow(made, cursor)
        reports += more
    assert len(reports) == 666
    assert told_by(reports) == whole


def test_a_pull_whose_report_was_lost_tells_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "hls.log"
    lines = JSON_LOG.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:300]))
    made = hls_run.source(path)
    _, cursor = follow(made, {})
    path.write_bytes(b"".join(lines))
    once, _ = follow(made, cursor)
    again, _ = follow(hls_run.source(path), cursor)
    assert told_by(once) == told_by(again)
    assert told_by(once) == told_by([*once, *again, *once])


def test_a_rotated_log_is_read_on_and_nobody_is_cut_in_two(tmp_path: Path) -> None:
    path = tmp_path / "hls.log"
    lines = JSON_LOG.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:200]))
    made = hls_run.source(path)
    reports, cursor = follow(made, {})
    path.rename(tmp_path / "hls.log.1")
    with (tmp_path / "hls.log.1").open("ab") as old:  # nginx writes on until it is told to reopen
        old.write(b"".join(lines[200:300]))
    path.write_bytes(b"".join(lines[300:]))
    more, _ = follow(made, cursor)
    assert told_by([*reports, *more]) == told_by(follow(hls_run.source(JSON_LOG), {})[0])


@pytest.mark.parametrize("is_looked_at", [True, False], ids=["emptied", "grown beyond"])
def test_a_log_that_is_emptied_where_it_lies_is_read_on_and_nobody_is_cut_in_two(
    tmp_path: Path, is_looked_at: bool
) -> None:
    path = tmp_path / "hls.log"
    lines = JSON_LOG.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:200]))
    made = hls_run.source(path)
    reports, cursor = follow(made, {})
    os.truncate(path, 0)
    if is_looked_at:
        more, cursor = follow(made, cursor, now_ms=NOW_MS + 1)
        reports += more
    with path.open("ab") as log:  # nginx appends
        log.write(b"".join(lines[200:]))
    assert path.stat().st_size > cursor["offset"]
    more, _ = follow(made, cursor, now_ms=NOW_MS + 2)
    reports += more
    assert told_by(reports) == told_by(follow(hls_run.source(JSON_LOG), {})[0])
    assert [sum(one.counts.get(name, 0) for one in reports) for name in ("truncated_files", "lost_files")] == [1, 0]
    heard = [(one.started_ms, one.ended_ms) for report in reports for one in report.heard]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(heard))


def test_lines_are_counted_by_reason() -> None:
    counts: Counter[str] = Counter()
    for report in follow(hls_run.source(JSON_LOG), {})[0]:
        counts.update(report.counts)
    assert counts == {"read": 666, "kept": 355, "skipped_playlist": 308, "skipped_method": 1, "skipped_status_404": 1,
                      "skipped_probe": 1}  # fmt: skip
    counts.clear()
    for report in follow(hls_run.source(FOLDER / "malformed.log"), {})[0]:
        counts.update(report.counts)
    assert counts["kept"] == 0
    assert sum(count for name, count in counts.items() if name.startswith("refused_")) == counts["read"] == 18


def test_a_line_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hls.log"
    path.write_bytes(record(at=NOW_MS / MS + 61) + b"\n" + record(at=NOW_MS / MS) + b"\n")
    (report,), _ = follow(hls_run.source(path), {})
    assert report.counts == {"read": 2, "kept": 1, "refused_future": 1}


def test_the_cursor_holds_no_address_no_agent_no_session_and_no_path() -> None:
    made = hls_run.source(JSON_LOG)
    _, cursor = follow(made, {})
    kept = json.dumps(cursor)
    assert len(cursor["stretches"]["playing"]) >= 3
    for secret in ("127.0.4", "iPhone", "Mozilla", "A1B2C3D4", "b-twin", "bq-77", "/hls/", str(FOLDER)):
        assert secret not in kept
    assert all(one.client.isdigit() for one in told_by(follow(made, {})[0]).values() if one.client)


def test_the_census_waits_one_window_more_and_never_for_the_clock_while_catching_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aircox_listen_stats.sources import follow as follower

    made = hls_run.source(JSON_LOG, delay_seconds=5)
    monkeypatch.setattr(follower, "PULL_BYTES", 5000)
    monkeypatch.setattr(follower, "HEAD_BYTES", 2000)
    reports, _ = follow(made, {})
    assert len(reports) > 10
    for report in reports[:-1]:
        newest_ms = max((one.seen_ms for one in report.observations), default=0)
        assert report.census.at_ms <= newest_ms
    assert reports[-1].census.at_ms == NOW_MS - 5000 - 3000
    assert reports[-1].heard[0].ended_ms == NOW_MS - 5000


def test_behind_a_proxy_of_ours_the_forwarded_address_is_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "hls.log"
    path.write_bytes(
        b"\n".join(
            [
                record(remote_addr="127.0.0.1", xff="198.51.100.9, 203.0.113.5"),
                record(remote_addr="127.0.0.1", xff=""),
                record(remote_addr="203.0.113.77", xff="198.51.100.1"),
                b"",
            ]
        )
    )
    made = HlsSource(
        "hls",
        MASTER,
        {"path": str(path), "start_at": "beginning", "target_seconds": 3},
        trusted_proxies=["127.0.0.0/8"],
    )
    told = [one for one in made.pull({}, now_ms=NOW_MS).observations if one.address]
    assert [(one.address.ip, one.identity_known) for one in told if one.address] == [
        ("203.0.113.5", True),
        ("127.0.0.1", False),
        ("203.0.113.77", True),
    ]


# Against the truth ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "only_looked"),
    [(JSON_LOG, ["bot1"]), (COMBINED_LOG, ["bot1", "bot4"])],
    ids=["json", "combined: no header, no ranges, whole seconds"],
)
def test_every_recorded_client_is_told_with_its_listening_time(log: Path, only_looked: list[str]) -> None:
    told = hls_run.sessions(told_by(follow(hls_run.source(log), {})[0]))
    matches, extra, missing = hls_run.match(told, hls_run.recorded_clients())
    print("\n" + hls_run.table(f"Recorded run, {log.name}", matches, 3.04))
    assert not missing
    # They asked for the master playlist alone, or for its first bytes.
    assert [(who[1], span.played_ms) for who, span in extra] == [(bot, 0) for bot in only_looked]
    assert len(matches) == 11
    for is_named in (True, False):
        assert hls_run.mean_error([one for one in matches if one.client.is_named == is_named]) < 2.0
    # A stop falls somewhere into the last window; ffmpeg asked once more after it was told to stop.
    assert all(-1.1 <= one.start_error <= 0.5 and -1.1 <= one.end_error <= 3.1 for one in matches)
    (paused,) = (one for one in matches if one.client.label == "pause-40s")
    assert len(paused.told.parts) == 2


# Into the tables ------------------------------------------------------------------------------------


@pytest.fixture
def station(db: None, settings: Any) -> Stream:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"hls": {"backend": "hls", "path": str(JSON_LOG), "target_seconds": TARGET}},
        "STREAMS": {"live": {"source": "hls", "station": 1, "mount": "/hls/live.m3u8"}},
        "RULE_SET": "all",
    }
    secrets.forget()
    recognise.forget()
    return Stream.objects.create(slug="live", station_id=1, source="hls")


class Playback:
    """The recorded log, written as it was, pulled and stored as a collector does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = JSON_LOG.read_bytes().splitlines(keepends=True)
        self.at_ms = [parse_line(line).ended_ms for line in self.lines]
        self.done = 0
        self.cursor: dict[str, Any] = {}
        path.write_bytes(b"")

    def store(self, now_ms: int) -> None:
        """Writes the lines up to ``now_ms``, and stores what one collector makes of them."""
        with self.path.open("ab") as log:
            while self.done < len(self.lines) and self.at_ms[self.done] <= now_ms:
                log.write(self.lines[self.done])
                self.done += 1
        reports, self.cursor = follow(hls_run.source(self.path), self.cursor, now_ms=now_ms)
        for report in reports:
            ingest.store(report, now_ms=now_ms)


def kept() -> list[tuple[Any, ...]]:
    """Everything that the tables hold of the listening, by start."""
    sessions = Session.objects.order_by("started", "ended", "listener")
    sent = ("bytes_sent", "delivered_ms", "rendition", "switches")
    columns = ("started", "ended", "played_ms", "parts", "is_open", "listener", "app", *sent)
    connections = Connection.objects.order_by("client").values_list("client", "started", "seen", "ended", *sent)
    return [*sessions.values_list(*columns), *connections]


def test_stored_in_many_pulls_or_in_one_the_tables_are_the_same(station: Stream, tmp_path: Path) -> None:
    found = []
    # Every two seconds, now and then a wait that ends listeners who then go on, and all at once.
    odd = [1_795_313_260_000, 1_795_313_300_000, 1_795_313_301_000, 1_795_313_335_000]
    for number, instants in enumerate((range(1_795_313_250_000, 1_795_313_420_000, 2000), odd, [])):
        for model in (Session, Connection, SourceState):
            model.objects.all().delete()
        playback = Playback(tmp_path / f"hls{number}.log")
        for now_ms in [*instants, NOW_MS]:
            playback.store(now_ms)
        found.append(kept())
    assert found[0] == found[1] == found[2]
    assert Session.objects.filter(is_open=True).count() == 0
    assert [len(one.parts) for one in Session.objects.exclude(parts=None)] == [2]  # who paused for 40 s
    check_sent()


def check_sent() -> None:
    """The sessions hold every byte and segment of the log, and the one change of rendition."""
    lines = [parse_line(line) for line in JSON_LOG.read_bytes().splitlines()]
    heard = [one for one in lines if (part := part_of(one, GROUPS)[0]) is not None and part.number is not None]
    assert Session.objects.aggregate(sent=Sum("bytes_sent"), delivered=Sum("delivered_ms")) == {
        "sent": sum(one.bytes_sent or 0 for one in heard),
        "delivered": len(heard) * TARGET * MS,
    }
    (changed,) = Session.objects.filter(switches__gt=0)
    assert (changed.rendition, changed.switches) == ("lo", 1)
    assert set(Session.objects.values_list("rendition", flat=True)) == {"hi", "lo", None}


def test_the_live_count_follows_within_two_targets(station: Stream, tmp_path: Path) -> None:
    # Behind an address and agent where somebody plays already, a second one is plain after TWIN_MS.
    parts = [
        (part, TWIN_MS / MS if one.label in ("twin-2", "noid-twin-2") else 0)
        for one in hls_run.recorded_clients()
        for part in one.parts
    ]
    playback = Playback(tmp_path / "hls.log")
    until_s, worst_s, late_s, shown = 1_795_313_405, 0.0, 0.0, []
    for now_s in range(1_795_313_250, until_s):
        playback.store(now_s * MS)
        shown.append(Session.objects.filter(is_open=True).count())
        before_s = now_s - 2 * TARGET - 1
        least = sum(start + plain_s <= before_s and now_s < stop for (start, stop), plain_s in parts)
        most = sum(start <= now_s and before_s < stop for (start, stop), _ in parts)
        late_s = 0.0 if least <= shown[-1] <= most else late_s + 1
        worst_s = max(worst_s, late_s)
    print(f"\nlive count: 0 to {max(shown)}, longest time beyond two targets: {worst_s:g} s")
    assert max(shown) >= 9
    assert shown[-1] == 0
    assert worst_s == 0


def test_no_table_holds_an_address_an_agent_or_a_session_id(station: Stream, tmp_path: Path) -> None:
    Playback(tmp_path / "hls.log").store(1_795_313_300_000)
    rows = [list(model.objects.values()) for model in (Session, Connection, SourceState)]
    assert all(rows)
    text = repr(rows)
    for secret in ("127.0.4", "iPhone", "Mozilla", "A1B2C3D4", "b-twin", "bq-77", "/hls/", str(tmp_path)):
        assert secret not in text
