"""Digits of labels."""

from __future__ import annotations

from analysis.numbers import short_labels


def test_settings_that_would_look_alike_have_more_digits() -> None:
    full = ["fierce λ=0.123441 e=100", "fierce λ=0.123449 e=100", "fierce λ=3.14159265359 e=100", "ce"]
    assert [*short_labels(full).values()] == [
        *("fierce λ=0.12344 e=100", "fierce λ=0.12345 e=100", "fierce λ=3.142 e=100", "ce")
    ]


def test_whole_and_small_and_negative_values() -> None:
    full = ["Own γ=123456", "Own γ=1.23456789e-07", "Own γ=-0.333333333333", "Own γ=1.00000000001"]
    expected = ["Own γ=123456", "Own γ=1.235e-07", "Own γ=-0.3333", "Own γ=1"]
    assert [*short_labels(full).values()] == expected


def test_one_setting_that_is_there_twice_is_short() -> None:
    assert short_labels(["ls σ=0.123456", "ls σ=0.123456"]) == {"ls σ=0.123456": "ls σ=0.1235"}


def test_settings_that_differ_in_the_last_digit_alone_stay_apart() -> None:
    assert len({*short_labels(["ls σ=0.123456789012", "ls σ=0.123456789013"]).values()}) == 2
