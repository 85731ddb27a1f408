"""Who may see which program's audience."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from aircox_listen_stats.errors import AircoxMissing
from aircox_listen_stats.models import ProgramAccess
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.onair.base import ProgramRef
from aircox_listen_stats.web import access
from tests.web import stations

pytestmark = pytest.mark.django_db

JAZZ, NEWS = 12, 13


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: stations.NOW)


@pytest.fixture
def station():
    station = stations.PastStation()
    stations.weekly(station, JAZZ, 2, program="Jazz")
    stations.weekly(station, NEWS, 2, program="News")
    return station


@pytest.fixture
def producer():
    return User.objects.create_user("ada", password="x")


def program(number: int, **values: object) -> ProgramRef:
    return ProgramRef(id=number, title=f"Program {number}", slug=f"p{number}", station_id=1, **values)


def diffusion_of(number: int) -> int:
    from aircox_listen_stats.models import Airing

    return Airing.objects.filter(program_id=number).latest("started").pk


def addresses(number: int) -> list[str]:
    return [
        reverse("listen_stats:program", args=[number]),
        reverse("listen_stats:diffusion", args=[diffusion_of(number)]),
    ]


def test_a_visitor_without_a_login_is_sent_to_it_and_back(client, station):
    for address in [reverse("listen_stats:programs"), reverse("listen_stats:status"), *addresses(JAZZ)]:
        for form in ("", "?format=csv", "?format=json"):
            response = client.get(address + form)
            assert response.status_code == 302
            assert response.url.startswith(reverse("login") + "?next=/")


@pytest.mark.parametrize("form", ["", "?format=csv", "?format=json"])
def test_a_producer_gets_neither_page_nor_file_of_a_program_that_is_not_hers(client, station, producer, form):
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    client.force_login(producer)
    assert [client.get(one + form).status_code for one in addresses(JAZZ)] == [200, 200]
    refused = [client.get(one + form) for one in addresses(NEWS)]
    assert [one.status_code for one in refused] == [403, 403]
    assert all(b"News" not in one.content for one in refused)


@pytest.mark.parametrize(("place", "table"), [(0, "episodes"), (1, "minutes"), (1, "episode")])
def test_nor_one_of_its_other_tables(client, station, producer, place, table):
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    client.force_login(producer)
    form = f"?format=csv&table={table}"
    assert client.get(addresses(JAZZ)[place] + form).status_code == 200
    assert client.get(addresses(NEWS)[place] + form).status_code == 403


def test_the_list_holds_only_the_programs_of_a_producer(client, station, producer):
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    client.force_login(producer)
    for form in ("", "?format=json"):
        page = client.get(reverse("listen_stats:programs") + form).content.decode()
        assert "Jazz" in page
        assert "News" not in page
    table = b"".join(client.get(reverse("listen_stats:programs") + "?format=csv")).decode()
    assert "Jazz" in table
    assert "News" not in table


def test_a_user_without_any_program_gets_a_kind_page(client, station, producer):
    client.force_login(producer)
    response = client.get(reverse("listen_stats:programs"))
    assert response.status_code == 403
    assert "No program has been given to you yet." in response.content.decode()


def test_a_group_s_programs_are_its_members(producer):
    group = Group.objects.create(name="jazz people")
    ProgramAccess.objects.create(group=group, program_id=JAZZ)
    assert not access.reach_of(producer, {}).covers(JAZZ)
    producer.groups.add(group)
    assert access.reach_of(producer, {}) == access.Reach(program_ids=frozenset({JAZZ}))


def test_the_editors_of_a_program_in_aircox_see_it(producer):
    editors, others = Group.objects.create(name="editors"), Group.objects.create(name="others")
    producer.groups.add(editors)
    known = {
        JAZZ: program(JAZZ, editors_group_id=editors.pk),
        NEWS: program(NEWS, editors_group_id=others.pk),
        14: program(14),
    }
    assert access.reach_of(producer, known).program_ids == {JAZZ}


@pytest.mark.parametrize("kind", ["superuser", "staff", "permission"])
def test_staff_and_those_with_the_permission_see_everything(client, station, kind):
    user = User.objects.create_user("boss", is_superuser=kind == "superuser", is_staff=kind == "staff")
    if kind == "permission":
        user.user_permissions.add(Permission.objects.get(codename="view_all_audiences"))
    client.force_login(user)
    pages = [reverse("listen_stats:programs"), reverse("listen_stats:status"), *addresses(JAZZ), *addresses(NEWS)]
    assert [client.get(one).status_code for one in pages] == [200] * len(pages)


def test_a_user_who_was_switched_off_sees_nothing(producer):
    producer.is_superuser = True
    producer.is_active = False
    assert access.reach_of(producer) == access.NOTHING


def test_a_diffusion_of_no_program_is_for_those_who_see_all(client, station, producer, admin_user):
    airing = station.diffusion(None, stations.NOW - stations.DAY, title="Handover")
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    client.force_login(producer)
    assert client.get(address).status_code == 403
    client.force_login(admin_user)
    assert client.get(address).status_code == 200


@pytest.mark.parametrize("digits", ["9" * 12, "9" * 30])
def test_a_number_that_no_database_holds_is_not_found(client, station, admin_user, digits):
    client.force_login(admin_user)
    assert client.get(f"{reverse('listen_stats:programs')}programs/{digits}/").status_code == 404
    assert client.get(f"{reverse('listen_stats:programs')}diffusions/{digits}/").status_code == 404
    assert client.get(f"{reverse('listen_stats:programs')}?weeks={digits * 200}").status_code == 200


@pytest.mark.parametrize("form", ["", "?format=json", "?format=csv&table=on-air"])
def test_what_another_program_played_across_the_border_keeps_its_figures(client, station, producer, admin_user, form):
    """The last song of the program before, or a file that ran over, is public; who heard it is not hers to see."""
    from aircox_listen_stats.models import Airing, Audience

    jazz = Airing.objects.get(pk=diffusion_of(JAZZ))
    values = {"layer": "sound", "station_id": station.id, "start_basis": "logged", "end_basis": "logged"}
    for number, program_id in enumerate((NEWS, JAZZ)):
        sound = Airing.objects.create(
            key=f"s{number}",
            title=f"a file of {program_id}",
            program_id=program_id,
            started=jazz.started - stations.HOUR,
            ended=jazz.started + stations.MINUTE,
            **values,
        )
        row = Audience.objects.filter(airing=jazz).values().get()
        Audience.objects.create(**{**row, "id": None, "airing_id": sound.pk, "joined": 940 + program_id})
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)

    def shown(user: User) -> list[int]:
        client.force_login(user)
        response = client.get(reverse("listen_stats:diffusion", args=[jazz.pk]) + form)
        text = response.getvalue().decode()
        return [program_id for program_id in (JAZZ, NEWS) if str(940 + program_id) in text]

    assert shown(producer) == [JAZZ]
    assert shown(admin_user) == [JAZZ, NEWS]


def test_the_status_page_is_for_technicians(client, producer):
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    client.force_login(producer)
    assert client.get(reverse("listen_stats:status")).status_code == 403


def test_a_producer_cannot_tell_a_strange_number_from_a_missing_one(client, station, producer):
    ProgramAccess.objects.create(user=producer, program_id=JAZZ)
    client.force_login(producer)
    assert client.get(reverse("listen_stats:diffusion", args=[987654])).status_code == 403
    assert client.get(reverse("listen_stats:program", args=[987654])).status_code == 403


def test_pages_stand_without_aircox(client, station, admin_user, monkeypatch):
    def missing(*args):
        raise AircoxMissing("none")

    for name in ("programs", "stations"):
        monkeypatch.setattr(aircox.AircoxLog, name, missing)
    client.force_login(admin_user)
    for address in [reverse("listen_stats:programs"), reverse("listen_stats:status"), *addresses(JAZZ)]:
        assert client.get(address).status_code == 200


def test_no_page_may_be_kept_by_a_shared_cache(client, station, admin_user):
    client.force_login(admin_user)
    for form in ("", "?format=csv", "?format=json"):
        for address in addresses(JAZZ):
            assert "private" in client.get(address + form)["Cache-Control"]
