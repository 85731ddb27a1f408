"""What each figure means, in words that stand beside it on every page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The name of a figure and the sentence that defines it, both translated when shown."""

    label: Promise
    text: Promise


DEFINITIONS: Mapping[str, Definition] = {
    "average": Definition(
        label=_("Average audience"),
        text=_(
            "How many listened at any one moment, on average: the listening time divided by the time on air. The "
            "trade calls it AAS, average active sessions. Over several diffusions long ones weigh more, and those "
            "observed for less than half of their time are left out."
        ),
    ),
    "peak": Definition(
        label=_("Peak"),
        text=_("The most sessions at one moment, and when that moment began."),
    ),
    "listeners": Definition(
        label=_("Distinct listeners"),
        text=_(
            "Different pseudonymous listeners with at least one counted session in it. Listeners of two diffusions "
            "cannot be added up: many are the same people. Where they could not be told apart, for instance behind a "
            "proxy, they are at least so many: the page then says why, and writes ≥."
        ),
    ),
    "episode_listeners": Definition(
        label=_("Distinct listeners of an episode"),
        text=_(
            "Different pseudonymous listeners of its first run, its repeats and its recordings on demand together. "
            "Within one period of the secret, a day unless set otherwise, each is counted once. Who returns in another "
            "one is not recognised: then they are at least as many as the fullest part or period had, and at most all "
            "of them together, and both numbers are shown."
        ),
    ),
    "listening_hours": Definition(
        label=_("Listening hours"),
        text=_("The time that all counted sessions together spent listening to it: TLH, total listening hours."),
    ),
    "sessions": Definition(
        label=_("Sessions"),
        text=_("Stretches of listening that met it. Short interruptions do not end a session."),
    ),
    "inherited": Definition(
        label=_("Already there"),
        text=_("Sessions that were listening before it began and heard some of it."),
    ),
    "joined": Definition(
        label=_("Tuned in"),
        text=_("Sessions that began while it was on air."),
    ),
    "left": Definition(
        label=_("Tuned out"),
        text=_("Sessions that ended while it was on air."),
    ),
    "kept": Definition(
        label=_("Listened on"),
        text=_(
            "Sessions that heard some of it and went on after its end; while it is on air, those that still listen."
        ),
    ),
    "stayed": Definition(
        label=_("Stayed throughout"),
        text=_("Sessions that were there from its first moment to its last."),
    ),
    "at_start": Definition(
        label=_("At the start"),
        text=_("Sessions that were listening in its first moment."),
    ),
    "at_end": Definition(
        label=_("At the end"),
        text=_("Sessions that were listening in its last moment."),
    ),
    "retention": Definition(
        label=_("Retention"),
        text=_("Of the sessions that were there in the first moment, the share that has not left yet at each minute."),
    ),
    "retention_of_all": Definition(
        label=_("Retention of all"),
        text=_(
            "Of all sessions that heard some of it, the share that is there when each minute begins: who has not come "
            "yet is not there yet."
        ),
    ),
    "usual": Definition(
        label=_("What the slot usually has"),
        text=_(
            "The median of the average audience of the last eight comparable diffusions before it: the same program at "
            "the same weekday and time, half an hour more or less, settled, not cancelled, observed for at least half. "
            "Of a repeat they are repeats. With fewer than four nothing is said."
        ),
    ),
    "coverage": Definition(
        label=_("Observed"),
        text=_(
            "The share of the time in which the streams were really observed. Who came and went in between is "
            "unknown, so that the other figures are then lower bounds, written with ≥."
        ),
    ),
    "settled": Definition(
        label=_("Settled or provisional"),
        text=_(
            "Figures are provisional until every session that touches them is closed and late observations have "
            "arrived. Settled figures that change after all get a new version."
        ),
    ),
}
"""By the name of the field in :class:`~aircox_listen_stats.reports.figures.Figures`."""

PERIOD_DEFINITIONS: Mapping[str, Definition] = {
    "tlh": Definition(
        label=_("Listening hours"),
        text=_(
            "TLH, total listening hours: what all counted sessions together heard inside the period. Who hears two "
            "streams at once counts twice, as in the bandwidth."
        ),
    ),
    "aas": Definition(
        label=_("Average audience"),
        text=_(
            "AAS, average active sessions: listening hours by the hours of the period, of which the day of a change "
            "of the clock has 23 or 25. Of a program: by its time on air, without diffusions observed for less than "
            "half of theirs."
        ),
    ),
    "active_sessions": Definition(
        label=_("Active sessions"),
        text=_("AS: counted sessions that heard some of the period, each once however long it was."),
    ),
    "started_sessions": Definition(
        label=_("Sessions started"),
        text=_("SS: counted sessions that began in the period."),
    ),
    "atsl_seconds": Definition(
        label=_("Time per session"),
        text=_("ATSL, average time spent listening: listening time in the period by active sessions."),
    ),
    "cume": Definition(
        label=_("Distinct listeners"),
        text=_(
            "CUME: different pseudonymous listeners with a counted session in the period. Two of them are never added, "
            "and of days that nobody can compare any more only the bounds are told. Where listeners could not be told "
            "apart, for instance behind a proxy, they are at least so many, and ≥ is written."
        ),
    ),
    "tsl_seconds": Definition(
        label=_("Time per listener"),
        text=_("TSL, time spent listening: listening time in the period by distinct listeners."),
    ),
    "reach": Definition(
        label=_("Reach"),
        text=_("Listeners who heard five minutes of the period, or of its daypart, in all."),
    ),
    "aqh": Definition(
        label=_("Average quarter-hour"),
        text=_(
            "AQH: how many heard five minutes of a quarter-hour of the clock, in aggregate; the mean of all "
            "quarter-hours of the period."
        ),
    ),
    "aqh_in_one_piece": Definition(
        label=_("Average quarter-hour, in one piece"),
        text=_("The same, of those who heard five minutes without a break."),
    ),
    "peak": Definition(
        label=_("Peak"),
        text=_("The most sessions at one moment."),
    ),
    "peak_at": Definition(
        label=_("Time of the peak"),
        text=_("When that moment began; of several, the first."),
    ),
    "person_hours": Definition(
        label=_("Listening hours of people"),
        text=_("The union of each listener’s sessions: who hears two streams at once listens once."),
    ),
    "elapsed_hours": Definition(
        label=_("Elapsed hours"),
        text=_("From the first to the last moment of each session, its interruptions included."),
    ),
    "delivered_hours": Definition(
        label=_("Delivered hours"),
        text=_("Sound that was sent, as segments tell it; of connections nothing is told but their time."),
    ),
    "delivered_share": Definition(
        label=_("Delivered: told of"),
        text=_("The share of the listening hours of which it is known what was delivered."),
    ),
    "bytes_sent": Definition(
        label=_("Data sent"),
        text=_("Bytes, where the source tells them, spread evenly over what was heard of a session."),
    ),
    "bytes_share": Definition(
        label=_("Data sent: told of"),
        text=_("The share of the listening hours of which the bytes are known."),
    ),
    "performances": Definition(
        label=_("Performances"),
        text=_(
            "One track played once to one listener, any portion of it; the sum of all tracks that began in the period. "
            "Every session counts for it, whatever the rule-set."
        ),
    ),
    "ath": Definition(
        label=_("Listening hours of music"),
        text=_("ATH, aggregate tuning hours: the listening time of all these tracks."),
    ),
}
"""By the name of a :class:`~aircox_listen_stats.reports.periods.PeriodFigure`."""

STANDS_ON: Mapping[str, Promise] = {
    "sessions": _("sessions"),
    "roll-up": _("stored sums"),
    "sketch": _("an estimate"),
    "": _("nothing"),
}
"""What a figure was computed from, by :class:`~aircox_listen_stats.reports.amounts.StandsOn`."""

COLUMNS: Mapping[str, str] = {
    "average_audience": "average",
    "average_audience_before": "average",
    "peak": "peak",
    "peak_at": "peak",
    "distinct_listeners": "listeners",
    "distinct_listeners_at_least": "episode_listeners",
    "distinct_listeners_at_most": "episode_listeners",
    "listening_hours": "listening_hours",
    "sessions": "sessions",
    "already_there": "inherited",
    "tuned_in": "joined",
    "tuned_out": "left",
    "listened_on": "kept",
    "stayed_throughout": "stayed",
    "at_start": "at_start",
    "at_end": "at_end",
    "retention_share": "retention",
    "retention_of_all_share": "retention_of_all",
    "usual_average_audience": "usual",
    "change_share": "usual",
    "coverage_share": "coverage",
    "is_settled": "settled",
    "version": "settled",
}
"""The key of the definition of each column of a table that has one."""

BASES: Mapping[str, Promise] = {
    "observed": _("observed in the playout"),
    "logged": _("from the station's log"),
    "scheduled": _("as planned"),
    "inferred": _("worked out"),
}
"""On what evidence a bound stands, by :class:`~aircox_listen_stats.kernel.types.Basis`."""

BLURS: Mapping[str, Promise] = {
    "address": _("most listened through one internet address, perhaps that of a relay or proxy server"),
    "proxy": _("of some, only the internet address of the station’s own proxy server is known"),
    "source": _("the streaming server takes several people with one internet address and the same app for one"),
    "shared": _("an imported file puts several people with one internet address together"),
}
"""Why listeners of a stream could not be told apart, by :class:`~aircox_listen_stats.models.Blur.Why`."""

REASONS: Mapping[str, Promise] = {
    "late": _("listening was told late or told better"),
    "label": _("somebody’s label was changed"),
    "backfill": _("a second source took the place of the first, or gave it back"),
    "rebuild": _("the figures were rebuilt"),
    "timeline": _("the times of what was on air were corrected"),
    "anew": _("the settings or the way of counting changed"),
}
"""Why a settled figure changed, by :class:`~aircox_listen_stats.kernel.types.Why`."""
