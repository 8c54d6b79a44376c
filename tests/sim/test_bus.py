"""The virtual broker behaves as a real one where it matters."""

from __future__ import annotations

from random import Random

import pytest

from pneumod.core.events import Received
from pneumod.messages import NO_TERM, Beacon, Beat, Card, Envelope, Gone, Message, Reply
from pneumod.sim.bus import Bus, Session, Topic, Weather
from pneumod.sim.clock import Clock

WILL = Envelope("1", NO_TERM, Gone(1, 1))


class Client:
    """A client that writes down what it hears."""

    def __init__(self, bus: Bus, name: str, will: Envelope | None = None) -> None:
        self.heard: list[Received] = []
        self.session: Session = bus.connect(name, self.heard.append, will)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.heard]


def bus_in(weather: Weather) -> Bus:
    return Bus(Clock(), Random(1), weather)


def say(bus: Bus, kind: str, message: Message | None, dest: str | None = None, sender: str = "1") -> None:
    bus.publish(Topic(sender, kind, dest), Envelope(sender, NO_TERM, message))


def beacon(note: str = "") -> Beacon:
    return Beacon(1, (), 1, "0" * 64, "idle", note)


def replies(client: Client) -> list[str]:
    return [e.envelope.message.text for e in client.heard if isinstance(e.envelope.message, Reply)]


def test_a_retained_message_comes_until_it_expires_or_is_cleared() -> None:
    bus = bus_in(Weather((1, 1)))
    say(bus, "beacon", beacon())
    bus.clock.run(29_000)
    client = Client(bus, "2")
    bus.clock.run(31_000)
    assert [event.retained for event in client.heard] == [True]
    late = Client(bus, "3")
    bus.clock.run(32_000)
    assert late.heard == []
    say(bus, "beacon", beacon())
    say(bus, "beacon", None)
    assert not bus.retained


def test_messages_on_one_topic_keep_their_order_and_others_overtake() -> None:
    bus = bus_in(Weather((1, 50), reorder=0.5))
    client = Client(bus, "2")
    for number in range(200):
        say(bus, "reply", Reply(True, str(number)), "2")
        say(bus, "beacon", beacon(str(number)))
    bus.clock.run(60_000)
    assert replies(client) == [str(n) for n in range(200)]
    assert client.kinds() != ["reply", "beacon"] * 200


def test_a_duplicate_may_come_after_a_later_message() -> None:
    bus = bus_in(Weather((1, 1), duplicates=0.5))
    client = Client(bus, "2")
    for number in range(50):
        say(bus, "reply", Reply(True, str(number)), "2")
        bus.clock.run(bus.clock.now_ms + 100)
    bus.clock.run(60_000)
    heard = [int(text) for text in replies(client)]
    assert sorted(set(heard)) == list(range(50))
    assert len(heard) > 50
    assert heard != sorted(heard)


def test_qos_0_gets_lost_and_qos_1_does_not() -> None:
    bus = bus_in(Weather((1, 1), loss=0.5))
    client = Client(bus, "2")
    bus.watch(client.session, True)
    beat = Beat(1, 1, "idle", 0.0, 0, None, None, NO_TERM)
    for _ in range(100):
        say(bus, "beat", beat)
        say(bus, "reply", Reply(True, ""), "2")
    bus.clock.run(60_000)
    assert 20 < client.kinds().count("beat") < 80
    assert client.kinds().count("reply") == 100


def test_the_queue_of_a_client_that_does_not_read_overflows_in_silence() -> None:
    bus = bus_in(Weather((1, 1), queue_limit=3))
    client = Client(bus, "2")
    bus.stall(client.session)
    for number in range(5):
        say(bus, "reply", Reply(True, str(number)), "2")
    bus.clock.run(1_000)
    assert client.heard == []
    bus.resume(client.session)
    assert replies(client) == ["0", "1", "2"]
    assert bus.overflowed == 2


def test_what_waits_too_long_expires() -> None:
    bus = bus_in(Weather((1, 1)))
    client = Client(bus, "2")
    bus.stall(client.session)
    say(bus, "reply", Reply(True, ""), "2")  # 30 s
    say(bus, "report", None, "2")  # 60 s
    bus.clock.run(40_000)
    bus.resume(client.session)
    assert client.kinds() == ["report"]


def test_a_silent_client_is_given_up_after_its_keepalive_and_its_will_is_said() -> None:
    bus = bus_in(Weather((1, 1), keepalive_ms=5_000))
    one, two = Client(bus, "1", WILL), Client(bus, "2")
    bus.stall(one.session)
    bus.leave(one.session)
    again = Client(bus, "1")
    bus.clock.run(7_000)
    assert two.heard == []
    bus.clock.run(8_000)
    assert two.kinds() == ["gone"]  # of the connection before
    assert bus.knows(again.session)


@pytest.mark.parametrize("keep", [True, False])
def test_a_broker_that_dies_says_no_will_and_may_forget(keep: bool) -> None:
    bus = bus_in(Weather((1, 1), keepalive_ms=5_000))
    one, two = Client(bus, "1", WILL), Client(bus, "2")
    say(bus, "beacon", beacon())
    say(bus, "card", Card("a", "1", 1))
    bus.stall(one.session)
    bus.restart(keep_retained=keep)
    bus.clock.run(20_000)
    assert two.heard == []
    assert not bus.knows(two.session)
    later = Client(bus, "2")
    bus.clock.run(21_000)
    assert later.kinds() == (["beacon"] if keep else [])
