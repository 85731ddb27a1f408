"""Machines that fetch a stream and are nobody's ear: servers that send it on, monitors that try if it is there."""

from __future__ import annotations

import functools
import re

import re2

from ..kernel.exclusions import RULE_LENGTH
from ..kernel.types import Exclusion

__all__ = ["MONITORS", "SERVERS", "machine"]

SERVERS: tuple[tuple[str, str], ...] = (
    # How an agent begins (lower case, as an expression), what the server is called.
    (r"icecast[ /]\d", "Icecast"),  # src/slave.c: a relay asks its master as "Icecast 2.4.4"; icecast-kh likewise
    (r"liquidsoap/\d", "Liquidsoap"),  # Http.user_agent, of input.http and of output.icecast
)
"""Stream servers: one socket of theirs feeds another stream.

Liquidsoap is one of them, whoever runs it: it is the playout of aircox's own stations (in the recorded run of
Icecast every line of it is a title of the station's own playout), of partners who broadcast the stream again, of
transmitters that are fed by it, and of recorders. Somebody who sits before it is rare, and can be counted again by
the rule's name.
"""

MONITORS: tuple[tuple[str, str], ...] = (
    # What a word of an agent begins with (lower case, as an expression), what the monitor is called. Most are
    # in Matomo's list of bots too (device-detector, category "Site Monitor").
    (r"aircox-listen-stats", "aircox-listen-stats"),  # our own polls, and the doctor
    (r"uptimerobot", "UptimeRobot"),
    (r"uptime[- ]?kuma", "Uptime Kuma"),
    (r"hetrix ?tools|hetrix\.tools", "HetrixTools"),
    (r"pingdom", "Pingdom"),
    (r"statuscake", "StatusCake"),
    (r"site24x7", "Site24x7"),
    (r"blackbox[- _]exporter", "Blackbox Exporter"),
    (r"prometheus/", "Prometheus"),
    (r"grafana/", "Grafana"),
    (r"zabbix", "Zabbix"),
    (r"check_(?:http|curl|icecast)", "Nagios"),
    (r"nagios", "Nagios"),
    (r"monitoring-plugins", "Nagios"),
    (r"icinga", "Icinga"),
    (r"munin", "Munin"),
    (r"monit/", "Monit"),
    (r"collectd", "collectd"),
    (r"telegraf/", "Telegraf"),
    (r"netdata", "Netdata"),
    (r"gatus/", "Gatus"),
    (r"better ?(?:uptime|stack)", "Better Stack"),
    (r"updown\.io", "updown.io"),
    (r"nodeping", "NodePing"),
    (r"freshping", "Freshping"),
    (r"onlineornot", "OnlineOrNot"),
    (r"ohdear", "Oh Dear"),
    (r"uptimia", "Uptimia"),
    (r"hyperping", "Hyperping"),
    (r"montastic", "Montastic"),
    (r"checkly/", "Checkly"),
    (r"phpservermon", "PHP Server Monitor"),
    (r"googlestackdrivermonitoring", "Google Cloud Monitoring"),
    (r"datadog", "Datadog"),
    (r"elb-healthchecker", "Amazon ELB"),
    (r"kube-probe/", "Kubernetes"),
)
"""Monitors: they come every minute, and stay for a moment or, where they measure the stream itself, for long."""

REMEMBERED_AGENTS = 4096
"""A station meets some thousand, a log the same ones again and again."""

LONGEST_AGENT = 512
"""Characters of an agent that are looked at, as by :mod:`.recognise`."""


FIRST, WORD = "^", "(?:^|[^a-z])"
"""Where in an agent an entry stands: servers at its beginning, monitors where a word begins."""

_EACH = tuple(
    (re.compile(f"{place}(?:{words})"), exclusion, f"{kind} {name}"[:RULE_LENGTH])
    for entries, place, exclusion, kind in (
        (SERVERS, FIRST, Exclusion.RELAY, "server"),
        (MONITORS, WORD, Exclusion.MONITOR, "monitor"),
    )
    for words, name in entries
)

_ANY = re2.compile("|".join(expression.pattern for expression, _, _ in _EACH))
"""re2 tries all of them at once, and nearly every agent is none of them."""


@functools.lru_cache(maxsize=REMEMBERED_AGENTS)
def machine(agent: str) -> tuple[Exclusion, str]:
    """Which machine the agent is, as a reason and a rule; ``(Exclusion.NONE, "")`` where it is none of ours."""
    agent = agent[:LONGEST_AGENT].strip().lower()
    if _ANY.search(agent) is None:
        return Exclusion.NONE, ""
    return next((exclusion, rule) for expression, exclusion, rule in _EACH if expression.search(agent))
