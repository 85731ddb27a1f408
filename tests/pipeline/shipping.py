"""A log shipper: recorded lines of nginx and Icecast as the stream events that it would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aircox_listen_stats.errors import MalformedRecord
from aircox_listen_stats.sources import accesslog

DATA = Path(__file__).parent.parent / "data"
NGINX_LOG = DATA / "hls" / "nginx_hls_json.log"
ICECAST_LOG = DATA / "icecast" / "icecast_access.log"


def of_nginx() -> Iterator[dict[str, Any]]:
    """The requests of the recorded run of HLS."""
    for line in NGINX_LOG.read_bytes().splitlines():
        said = json.loads(line)
        yield {
            "origin": "hls",
            "ip": said["remote_addr"],
            "method": said["method"],
            "path": said["uri"] + (f"?{said['args']}" if said["args"] else ""),
            "status": said["status"],
            "bytes_sent": said["body_bytes_sent"],
            "user_agent": said["agent"],
            "referer": said["referer"],
            "time_end": said["msec"],
            "seconds_connected": said["request_time"],
            "range": said["range"],
            "session_id": said["session"],
            "completion": said["completion"],
        }


def of_icecast() -> Iterator[dict[str, Any]]:
    """The connections of the recorded run of Icecast, without the lines that it cut."""
    for line in ICECAST_LOG.read_bytes().splitlines():
        try:
            said = accesslog.parse_line(line)
        except MalformedRecord:
            continue
        yield {
            "origin": "icecast",
            "ip": said.address.ip,
            "method": said.method,
            "path": said.path,
            "status": said.status,
            "bytes_sent": said.bytes_sent,
            "user_agent": said.address.agent,
            "time_end": said.ended_s,
            "seconds_connected": said.duration_s,
        }
