"""Settings from the environment: never an exception, always a value, and one line for what cannot be used."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from race_watch.settings import PREFIX, Settings, from_env

FIELDS = [field for field in dataclasses.fields(Settings) if field.name != "problems"]


def test_empty_environment_gives_the_defaults() -> None:
    assert from_env({}) == Settings()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_setting_has_its_variable_its_help_and_a_default_that_is_valid(field: dataclasses.Field[object]) -> None:
    default = field.default
    assert field.metadata["help"]
    settings = from_env({PREFIX + field.name.upper(): str(default)})
    assert getattr(settings, field.name) == default
    assert settings.problems == ()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_empty_variable_counts_as_unset(field: dataclasses.Field[object]) -> None:
    assert from_env({PREFIX + field.name.upper(): ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        pytest.param(
            "METRICS_PORT", "nine", "RACE_WATCH_METRICS_PORT='nine' is not a whole number; using 9464", id="no number"
        ),
        pytest.param(
            "METRICS_PORT", "65536", "RACE_WATCH_METRICS_PORT=65536 is not between 0 and 65535; using 9464", id="high"
        ),
        pytest.param("JOURNAL_BYTES", "1", "is not between 65536 and 67108864; using 1048576", id="low"),
        pytest.param("IDENTITY", "secret", "RACE_WATCH_IDENTITY='secret' is not one of hash, plain; using 'hash'", id="choice"),
        pytest.param("METRIC_PORT", "1", "did you mean RACE_WATCH_METRICS_PORT?", id="misspelt"),
        pytest.param("ZZZZZZZZ", "1", "RACE_WATCH_ZZZZZZZZ is not a setting of race_watch", id="unknown"),
    ],
)
def test_variable_that_cannot_be_used_is_told_and_the_default_stands(name: str, value: str, told: str) -> None:
    settings = from_env({PREFIX + name: value})
    assert dataclasses.replace(settings, problems=()) == Settings()
    [problem] = settings.problems
    assert told in problem


def test_a_bad_variable_does_not_spoil_a_good_one() -> None:
    settings = from_env({"RACE_WATCH_METRICS_PORT": "x", "RACE_WATCH_IDENTITY": "plain", "RACE_WATCH_QUIET": "1"})
    assert (settings.identity, settings.quiet, settings.metrics_port) == ("plain", 1, 9464)
    assert len(settings.problems) == 1


@pytest.mark.parametrize("name", ["RACE_WATCH", "RACE_WATCH_DEBUG", "RACE_WATCH_LAB_CACHE", "race_watch_quiet", "PATH"])
def test_variables_of_the_bootstrap_the_lab_and_others_are_no_problem(name: str) -> None:
    assert from_env({name: "1"}).problems == ()


@given(st.dictionaries(st.sampled_from([PREFIX + field.name.upper() for field in FIELDS]), st.text()))
def test_no_text_raises_and_what_comes_out_is_in_range(environment: dict[str, str]) -> None:
    settings = from_env(environment)
    for field in FIELDS:
        value = getattr(settings, field.name)
        assert type(value) is type(field.default)
        if isinstance(value, int):
            assert field.metadata["low"] <= value <= field.metadata["high"]
        elif "choices" in field.metadata:
            assert value in (*field.metadata["choices"], field.default)
    assert len(settings.problems) <= len(environment)
