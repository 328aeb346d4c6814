"""Seats: numbers that stay, epochs that never come back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from site_fleet import FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet, real, vip, without

from edge_lb.seats import (
    OWN_MEMORIES_MAX,
    SEATS_MAX,
    VIPS_MAX,
    FoundReal,
    FoundVip,
    Seats,
    assign,
    capacity_faults,
    recover,
    seat_name,
)
from gslb.fleet.model import Protocol, RealName, VipName

VIP = IPv4Address("198.51.100.1")


def found(seats: Seats) -> tuple[list[FoundVip], dict[int, FoundReal]]:
    """What maps would hold after a plan with these seats."""
    ports = {"www": 80, "tls": 443}
    vips = [
        FoundVip(
            index=index,
            address=VIP,
            port=ports[name],
            protocol=Protocol.TCP,
            ring_reals=frozenset(
                seat.index for pair, seat in seats.reals.items() if pair.startswith(f"{name}/")
            ),
        )
        for name, index in seats.vips.items()
    ]
    reals = {
        seat.index: FoundReal(index=seat.index, epoch=seat.epoch, address=IPv4Address(seat.address))
        for seat in seats.reals.values()
    }
    return vips, reals


def test_every_pair_gets_a_number_above_zero_and_an_epoch_of_its_own():
    seats = assign(fleet(), FRA, Seats())

    assert sorted(seat.index for seat in seats.reals.values()) == [1, 2, 3, 4, 5]
    assert sorted(seat.epoch for seat in seats.reals.values()) == [1, 2, 3, 4, 5]
    assert seats.vips == {"www": 0, "tls": 1}
    assert seats.last_epoch == 5


def test_same_configuration_changes_no_seat():
    seats = assign(fleet(), FRA, Seats())

    assert assign(fleet(), FRA, seats) == seats


def test_removed_vip_frees_its_numbers_and_the_next_owner_gets_new_epochs():
    before = assign(fleet(), FRA, Seats())
    gone = assign(without(fleet(), WWW), FRA, before)
    back = assign(fleet(), FRA, gone)

    assert set(gone.reals) == {"tls/web1", "tls/web2"}
    assert gone.reals["tls/web1"] == before.reals["tls/web1"]
    assert back.vips == before.vips
    assert {back.reals[f"www/{name}"].index for name in (WEB1, WEB2, WEB3)} == {1, 2, 3}
    assert all(back.reals[f"www/{name}"].epoch > 5 for name in (WEB1, WEB2, WEB3))


def test_changed_address_is_a_new_owner():
    before = assign(fleet(), FRA, Seats())
    reals = {name: real(name, number) for number, name in ((11, WEB1), (99, WEB2), (13, WEB3))}
    after = assign(fleet(reals=reals), FRA, before)

    assert after.reals["www/web1"] == before.reals["www/web1"]
    assert after.reals["www/web2"].epoch > before.last_epoch
    assert after.reals["tls/web2"].epoch > before.last_epoch


def test_lost_memory_is_found_again_in_the_maps():
    seats = assign(fleet(), FRA, Seats())
    vips, reals = found(seats)

    assert recover(fleet(), FRA, Seats(), vips, reals) == seats


def test_maps_that_are_gone_leave_the_memory_as_it_was():
    seats = assign(fleet(), FRA, Seats())

    assert recover(fleet(), FRA, seats, [], {}) == seats


def test_memory_older_than_the_maps_gives_up_the_seats_that_others_took():
    old = assign(fleet(), FRA, Seats())
    _, reals = found(old)
    taken = old.reals["www/web3"].index
    reals[taken] = FoundReal(index=taken, epoch=77, address=IPv4Address("10.1.2.200"))

    mended = assign(fleet(), FRA, recover(fleet(), FRA, old, [], reals))

    assert mended.reals["www/web1"] == old.reals["www/web1"]
    assert mended.reals["www/web3"].epoch > 77


def test_found_vip_takes_its_index_from_whoever_remembers_it():
    remembered = Seats(vips={"tls": 0})
    held = FoundVip(index=0, address=VIP, port=80, protocol=Protocol.TCP, ring_reals=frozenset())

    seats = assign(fleet(), FRA, recover(fleet(), FRA, remembered, [held], {}))

    assert seats.vips == {"www": 0, "tls": 1}


def test_what_the_maps_cannot_hold_is_told():
    many = tuple(vip(VipName(f"v{number}"), number + 1, (WEB1,)) for number in range(VIPS_MAX + 1))
    crowd = {RealName(f"r{n}"): real(RealName(f"r{n}"), n % 250) for n in range(SEATS_MAX + 1)}
    wide = fleet(reals=crowd, vips=(vip(WWW, 80, tuple(crowd)),))

    assert [reason for _, reason, _ in capacity_faults(fleet(vips=many), FRA)] == [
        f"{VIPS_MAX + 1} VIPs at site `fra`"
    ]
    roomy = [vip(VipName(f"v{n}"), n + 1, (WEB1,)) for n in range(OWN_MEMORIES_MAX + 1)]
    own = tuple(replace(one, flows_per_queue=1024) for one in roomy)
    assert [reason for _, reason, _ in capacity_faults(fleet(vips=own), FRA)] == [
        f"{OWN_MEMORIES_MAX + 1} VIPs at site `fra` have a flows_per_queue of their own"
    ]
    assert list(capacity_faults(fleet(vips=own[1:]), FRA)) == []
    assert len(list(capacity_faults(wide, FRA))) == 1
    assert list(capacity_faults(fleet(), FRA)) == []


def test_seat_names_cannot_meet():
    assert seat_name(TLS, WEB1) == "tls/web1"
