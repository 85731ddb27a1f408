"""What Liquidsoap says about a request, and how its words become attributes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

# Liquidsoap writes the host's wall time, without an offset.
ON_AIR_FORMAT = "%Y/%m/%d %H:%M:%S"


class BaseMetadata:
    """A request as Liquidsoap describes it; attributes keep their last value when it is silent."""

    controller: Any = None
    rid: str | None = None
    uri: str | None = None
    status: str | None = None
    request_status: str | None = None
    air_time: datetime | None = None

    def __init__(self, controller: Any = None, rid: str | None = None, data: dict[str, str] | None = None) -> None:
        self.controller = controller
        self.rid = rid
        if data is not None:
            self.validate(data)

    @property
    def is_playing(self) -> bool:
        return self.status == "playing"

    @property
    def status_verbose(self) -> str | None:
        return self.status

    def fetch(self) -> None:
        metadata = self.controller.send("request.metadata ", self.rid, parse=True)
        if metadata:
            self.validate(metadata)

    def validate(self, data: dict[str, str]) -> None:
        """Nothing; every key that is the name of an attribute overwrites it, a file's tags included."""
        for key, value in data.items():
            if self._is_attribute(key):
                setattr(self, key, value)
        self.uri = data.get("initial_uri")
        self.air_time = self.validate_air_time(data.get("on_air"))
        self.status = self.validate_status(data.get("status"))
        self.request_status = data.get("status")

    def _is_attribute(self, key: str) -> bool:
        if isinstance(getattr(type(self), key, None), property):
            return False
        return hasattr(self, key) and not callable(getattr(self, key))

    def validate_status(self, status: str | None) -> str:
        """`playing` for what is on air, `paused` for what plays under it, else `stopped`."""
        if status != "playing":
            return "stopped"
        on_air = self.controller.source
        heard = on_air is not None and (on_air is self or on_air.rid == self.rid)
        return "playing" if heard else "paused"

    def validate_air_time(self, air_time: str | None) -> datetime | None:
        """The aware instant of a wall time of the host.

        Of the autumn's two equal hours the second is taken, so the first reads one hour late.
        """
        if not air_time:
            return None
        return datetime.strptime(air_time, ON_AIR_FORMAT).replace(fold=1).astimezone(UTC)


class Request(BaseMetadata):
    title: str | None = None
    artist: str | None = None
