"""The recorded run of a real Icecast, through each ear, against what its clients truly did.

Run with ``-s`` to read the tables of errors.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from aircox_listen_stats.errors import MalformedRecord
from aircox_listen_stats.kernel.types import ListenerMark, Observation
from aircox_listen_stats.sources import accesslog, urlauth
from aircox_listen_stats.sources.icecast import IcecastSource
from tests.sources.recording import (
    FOLDER,
    MOUNTS,
    MS,
    Client,
    Match,
    RecordedIcecast,
    Told,
    at,
    clients,
    explain,
    match,
    rows,
    table,
    told_of,
    truth,
)

START_SECONDS = 1.0
PROMPT_SECONDS = 2.0
"""How far off a callback or a log line may be about an end."""
OGG_FLUSH_SECONDS = 2.25
"""Icecast notices that an Ogg listener has gone when it next writes a page: a known lag."""
POLL_SECONDS = 15.0
"""How often the recorded run was polled."""

ODD: dict[str, Callable[[Client], bool]] = {
    "no answer: Icecast was down": lambda one: "ConnectionRefused" in one.ended_by,
    "reset by Icecast: agent of 6 kB": lambda one: one.label == "ua-6k",
    "404: no source on the mount": lambda one: one.status == 404,
    "400: HEAD and POST": lambda one: one.method in ("HEAD", "POST") and one.status == 400,
    "no answer: OPTIONS": lambda one: one.method == "OPTIONS",
    "reset before the answer": lambda one: one.label.startswith("instant-rst"),
}
"""Clients that never heard a note; what they are in words."""


def _assert_starts(matches: list[Match]) -> None:
    late = [(one.client.label, one.start_error_s) for one in matches if abs(one.start_error_s) > START_SECONDS]
    assert not late


def _assert_prompt_ends(matches: list[Match]) -> None:
    off = [
        (one.client.label, one.end_error_s)
        for one in matches
        if abs(one.end_error_s) > (OGG_FLUSH_SECONDS if one.client.stream == "ogg" else PROMPT_SECONDS)
    ]
    assert not off


def _report(
    title: str,
    matches: list[Match],
    missing: Iterable[Client],
    extra: dict[str, list[Told]],
    reasons: dict[str, Callable[[Client], bool]],
) -> None:
    """Prints the table; fails where a client is missing without a name for it."""
    by_reason, unexplained = explain(list(missing), {**ODD, **reasons})
    more = [f"{len(matches)} of {sum(one.heard for one in clients())} clients that heard something"]
    more += [
        f"not told, {len(labels):2}: {reason} ({', '.join(sorted(set(labels)))})"
        for reason, labels in by_reason.items()
    ]
    more += [f"more told, {len(told):2}: {reason}" for reason, told in extra.items() if told]
    print("\n" + table(title, matches, more))
    assert not unexplained


def _before_the_script(told: Told) -> bool:
    return told.started_ms < truth()["t0"] * MS


# The access log ------------------------------------------------------------------------------------

LOST_IN_THE_LOG: dict[str, Callable[[Client], bool]] = {
    "line cut at 1023 characters: agent of 2 kB": lambda one: one.label == "ua-2k",
}


def _assert_log(told: list[Told], title: str) -> None:
    matches, extra, missing = match(told, clients())
    warm_up = [one for one in extra if _before_the_script(one)]
    _report(title, matches, missing, {"try-outs before the script": warm_up}, LOST_IN_THE_LOG)
    assert extra == warm_up
    assert len(warm_up) == 2
    assert all(one.client.heard for one in matches)
    assert {one.label for one in missing if one.heard} == {"ua-2k"}
    _assert_starts(matches)
    _assert_prompt_ends(matches)


def _told(observations: Iterable[Observation]) -> list[Told]:
    return [told_of(one, one.address) for one in observations]


def test_access_log_followed_gives_every_session_but_the_cut_line(tmp_path: Path) -> None:
    """Followed in pieces of any size, whatever the piece cuts in two."""
    recorded = (FOLDER / "icecast_access.log").read_bytes()
    path = tmp_path / "access.log"
    path.write_bytes(b"")
    source = accesslog.AccessLogSource("log", MOUNTS, {"path": str(path), "start_at": "beginning"})
    told: list[Told] = []
    cursor: dict = {}
    counts: dict[str, int] = {}
    for n in range(0, len(recorded) + 777, 777):
        path.write_bytes(recorded[:n])
        report = source.pull(cursor, now_ms=at(truth()["t0"] + n / 777))
        cursor = dict(report.cursor or {})
        told += _told(report.observations)
        for name, count in report.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert counts["read"] == len(recorded.splitlines())
    assert counts["refused_cut"] == 1
    _assert_log(told, "Access log, followed")


def test_access_log_imported_gives_the_same_sessions_as_followed() -> None:
    told = []
    slugs = sorted(MOUNTS.values())
    with (FOLDER / "icecast_access.log").open("rb") as log:
        for chunk in accesslog.read_chunks(log, MOUNTS, chunk_bytes=5000):
            for start, end, stream, who in zip(chunk.started_ms, chunk.ended_ms, chunk.stream, chunk.who, strict=True):
                told.append(
                    told_of(
                        Observation(stream=slugs[stream], started_ms=start, seen_ms=end, ended=True),
                        chunk.addresses[who],
                    )
                )
    _assert_log(told, "Access log, imported")


def test_bulk_reading_agrees_with_line_reading() -> None:
    """The fast reader of imports and the plain parser say the same of every recorded line."""
    recorded = (FOLDER / "icecast_access.log").read_bytes()
    counts: dict[str, int] = {"read": 0, "kept": 0}
    for line in recorded.splitlines():
        counts["read"] += 1
        try:
            stream, reason = accesslog.stream_of(accesslog.parse_line(line), MOUNTS)
        except MalformedRecord as error:
            reason, stream = f"refused_{error.reason}", ""
        else:
            reason = f"skipped_{reason}"
        name = "kept" if stream else reason
        counts[name] = counts.get(name, 0) + 1
    (chunk,) = accesslog.read_chunks(io.BytesIO(recorded), MOUNTS)
    assert chunk.counts == counts


# URL authentication ----------------------------------------------------------------------------------


def _callbacks(actions: set[str]) -> dict[tuple[int, str], tuple[Told, int]]:
    """Sessions by client number and run, from the recorded bodies of the main service."""
    restarted_ms = at(next(e["t"] for e in truth()["events"] if e["event"] == "icecast started"))
    last_ms = at(next(e["t"] for e in truth()["events"] if e["event"] == "end"))
    found: dict[tuple[int, str], tuple[Told, int]] = {}
    for row in rows("url_auth.jsonl"):
        if not row["path"].startswith("/ok/") or at(row["t_recv"]) > last_ms:
            continue
        event = urlauth.parse_body(row["raw_body"].encode())
        if event.action not in actions or event.mount not in MOUNTS:
            continue
        received_ms = at(row["t_recv"])
        payload = urlauth.payload_of(event, stream=MOUNTS[event.mount], mark=ListenerMark(listener=1))
        (one,) = urlauth.observations(payload, received_ms=received_ms)
        told = told_of(one, event.address)
        key = (int(received_ms > restarted_ms), str(event.client))
        if key in found:
            before = found[key][0]
            told = Told(
                stream=before.stream,
                ip=before.ip,
                agent=before.agent,
                started_ms=min(before.started_ms, told.started_ms),
                ended_ms=max(before.ended_ms, told.ended_ms),
                ended=before.ended or told.ended,
            )
        found[key] = (told, received_ms)
    return found


LONGEST_REFUSAL_MS = 2 * MS
"""Duration in whole seconds, and the callback that waited for others on its mount."""

BEYOND_URL_AUTH: dict[str, Callable[[Client], bool]] = {
    "mount without URL authentication": lambda one: one.stream == "low",
}


def _assert_callbacks(actions: set[str], title: str) -> None:
    every, extra, missing = match([told for told, _ in _callbacks(actions).values()], clients())
    matches = [one for one in every if one.client.heard]
    refused = [one.told for one in every if not one.client.heard]
    warm_up = [one for one in extra if _before_the_script(one)]
    _report(
        title,
        matches,
        missing,
        {
            "try-outs before the script": warm_up,
            "404 on a mount with URL authentication, told as a session of up to a second": refused,
        },
        BEYOND_URL_AUTH,
    )
    assert extra == warm_up
    assert {one.client.status for one in every if not one.client.heard} == {404}
    assert all(one.ended_ms - one.started_ms < LONGEST_REFUSAL_MS for one in refused)
    assert all(one.stream == "low" for one in missing if one.heard)
    _assert_starts(matches)
    _assert_prompt_ends(matches)


def test_listener_remove_alone_gives_every_session_of_its_mounts() -> None:
    _assert_callbacks({"listener_remove"}, "URL authentication, listener_remove alone")


def test_listener_add_and_remove_give_every_session_of_their_mounts() -> None:
    _assert_callbacks({"listener_add", "listener_remove"}, "URL authentication, add and remove")


def test_every_recorded_callback_is_understood() -> None:
    """119 bodies, the other services' included; none keeps a password, a user or a query."""
    events = [urlauth.parse_body(row["raw_body"].encode()) for row in rows("url_auth.jsonl")]
    assert len(events) == 119
    assert {one.action for one in events} == urlauth.LISTENER_ACTIONS | urlauth.OTHER_ACTIONS
    assert not any("labsource" in repr(one) or "token" in one.mount for one in events)


# The poll ------------------------------------------------------------------------------------------


def _polled(fallbacks: dict[str, tuple[str, ...]]) -> tuple[list[Told], list[dict[str, int]]]:
    """Sessions by run and client number: from the first sighting to the last."""
    icecast = RecordedIcecast()
    source = IcecastSource(
        "icecast",
        MOUNTS,
        {"url": "http://127.0.0.1:8000", "password": "hidden", "poll_seconds": 15},
        fallbacks=fallbacks,
    )
    source.transport = icecast
    found: dict[tuple[str, str], Told] = {}
    cursor: dict = {}
    counts = []
    for instant_s in icecast.rounds():
        icecast.now_s = instant_s
        report = source.pull(cursor, now_ms=at(instant_s))
        cursor = dict(report.cursor or {})
        counts.append(dict(report.counts))
        assert report.census is not None
        assert report.census.streams == set(MOUNTS.values())
        for one in report.observations:
            told = told_of(one, one.address)
            key = (report.census.server, str(one.client))
            before = found.get(key)
            assert before is None or (before.stream, before.started_ms) == (told.stream, told.started_ms)
            found[key] = told
    source.close()
    return list(found.values()), counts


def _never_polled(client: Client) -> bool:
    """No poll came between its start and its end."""
    return not any(client.started_ms < at(one) < client.ended_ms for one in RecordedIcecast().rounds())


def test_polls_give_every_session_that_a_poll_met() -> None:
    """Starts within a second, ends within the interval, one stream for each client whatever was moved."""
    told, _ = _polled({"live": ("/fallback.mp3",)})
    matches, extra, missing = match(told, clients())
    _report(
        "Admin poll every 15 s",
        matches,
        missing,
        {},
        {"came and went between two polls": _never_polled},
    )
    assert extra == []
    assert all(one.client.heard for one in matches)
    _assert_starts(matches)
    off = [
        (one.client.label, one.end_error_s)
        for one in matches
        if not -POLL_SECONDS <= one.end_error_s <= OGG_FLUSH_SECONDS
    ]
    assert not off


def test_a_client_that_was_moved_stays_on_the_stream_where_it_came_in() -> None:
    """moveclients took two clients from /low.mp3 to /fallback.mp3, then one on to /live.mp3."""
    told, _ = _polled({})
    moved = {one.agent: one.stream for one in told if one.agent in ("icyreader1", "moved1")}
    assert moved == {"icyreader1": "low", "moved1": "low"}
