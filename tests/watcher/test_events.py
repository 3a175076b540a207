"""The vocabulary: every event survives its body, and a body that is not one is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch import events
from race_watch.events import EVENTS, LIST_SEP, SEP, Event, clean, decode

EVENT_NAMES = [event.__name__ for event in EVENTS]
FUZZ = settings(deadline=None, derandomize=True, database=None)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(clean)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**64),
    "str": _TEXT,
    "tuple[str, ...]": st.lists(_TEXT.filter(bool), max_size=5).map(tuple),
}


def field_types(event: type[Event]) -> list[str]:
    return [str(field.type) for field in fields(event)]  # type: ignore[arg-type]


def body_of(event: type[Event], values: list[Any]) -> str:
    return event.body(*(LIST_SEP.join(value) if isinstance(value, tuple) else value for value in values))


def test_codes_are_places_and_places_never_change() -> None:
    assert [event.code for event in EVENTS] == list(range(1, len(EVENTS) + 1))
    # Append only: a reader must understand the journals of an older writer of the same layout version.
    assert EVENT_NAMES[:18] == [
        "SdkLoaded",
        "HookInstalled",
        "HookStruck",
        "LoopBorn",
        "LoopClosed",
        "CallStarted",
        "CallEnded",
        "RoomConnected",
        "RoomEventDispatched",
        "RoomEventUnmatched",
        "ExceptionSeen",
        "ExceptionSeenAgain",
        "FfiErrorLogged",
        "ConstructorFailed",
        "TaskDestroyedPending",
        "ResourcesSampled",
        "Disarmed",
        "RoomNamed",
    ]


def test_every_event_of_the_module_has_a_code() -> None:
    defined = {value for value in vars(events).values() if isinstance(value, type) and issubclass(value, Event)} - {Event}
    assert defined == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=EVENT_NAMES)
def test_fields_are_of_the_types_that_a_body_can_carry(event: type[Event]) -> None:
    assert field_types(event)
    assert set(field_types(event)) <= set(_VALUES)


@pytest.mark.parametrize("event", EVENTS, ids=EVENT_NAMES)
@FUZZ
@given(data=st.data())
def test_event_is_decoded_as_it_was_stated(event: type[Event], data: st.DataObject) -> None:
    values = [data.draw(_VALUES[kind]) for kind in field_types(event)]
    decoded = decode(event.code, body_of(event, values))
    assert type(decoded) is event
    assert decoded == event(*values)


@pytest.mark.parametrize(
    ("event", "count"),
    [(event, len(field_types(event)) + change) for event in EVENTS for change in (1, -1) if len(field_types(event)) + change],
)
def test_body_with_another_number_of_fields_is_refused(event: type[Event], count: int) -> None:
    with pytest.raises(ValueError, match=rf"^{event.__name__} has \d+ fields, not {count}$"):
        decode(event.code, SEP.join(["1"] * count))


@pytest.mark.parametrize("code", [0, -1, len(EVENTS) + 1, 0x7FFF])
def test_unknown_code_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=f"^unknown event code {code}$"):
        decode(code, "x")


def test_text_in_place_of_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        decode(events.HookStruck.code, SEP.join(["hook", "KeyError", "yes"]))


@FUZZ
@given(code=st.integers(-5, 70_000), body=st.text(max_size=300))
def test_any_body_is_an_event_or_a_value_error(code: int, body: str) -> None:
    try:
        event = decode(code, body)
    except ValueError:
        return
    assert type(event) in EVENTS


@FUZZ
@given(text=st.text(st.sampled_from(["a", SEP, LIST_SEP, "\n", "\r"])))
def test_clean_text_cannot_end_a_field_or_a_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert not set(cleaned) & {SEP, LIST_SEP, "\n", "\r"}
