"""The peer of the ingest benchmark: a Django REST view as one writes it, many=True and bulk_create."""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application
from django.db import models
from django.urls import path
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

application = get_asgi_application()

STAMP = "%d/%b/%Y:%H:%M:%S %z"


class Event(models.Model):
    """One event, as it is told."""

    origin = models.CharField(max_length=8, choices=[("hls", "hls"), ("icecast", "icecast")])
    ip = models.GenericIPAddressField()
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=255)
    status = models.PositiveSmallIntegerField()
    bytes_sent = models.BigIntegerField()
    user_agent = models.CharField(max_length=512, blank=True)
    referer = models.CharField(max_length=512, blank=True)
    time_start = models.DateTimeField()
    time_end = models.DateTimeField()
    seconds_connected = models.FloatField()

    class Meta:
        app_label = "benchmarks"
        db_table = "benchmark_peer_event"


class EventSerializer(serializers.ModelSerializer):
    time_start = serializers.DateTimeField(input_formats=[STAMP])
    time_end = serializers.DateTimeField(input_formats=[STAMP])

    class Meta:
        model = Event
        exclude = ["id"]


class Ingest(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]

    def post(self, request: Request) -> Response:
        serializer = EventSerializer(data=request.data, many=True)
        serializer.is_valid(raise_exception=True)
        Event.objects.bulk_create([Event(**one) for one in serializer.validated_data])
        return Response({"accepted": len(serializer.validated_data)})


urlpatterns = [path("stream-events/", Ingest.as_view())]
