"""Windows of weather and the two forecasts without learning."""

import datetime as dt

import numpy as np
import pytest

from training.weather import (
    FEATURES,
    TEST_YEARS,
    TRAIN_YEARS,
    VALIDATION_YEARS,
    Weather,
    forecast_starts,
    mean_absolute_errors,
    persistence,
    seasonal_naive,
    seattle_weather,
    seattle_windows,
    windows,
)


@pytest.fixture(scope="module")
def weather() -> Weather:
    return seattle_weather()


def made_up(days: int, *, first: dt.date = dt.date(2015, 1, 1)) -> Weather:
    """Return a record in which feature f of day d is 1000 f + d."""
    values = np.arange(days)[:, None] + 1000 * np.arange(len(FEATURES))
    return Weather(dates=tuple(first + dt.timedelta(days=day) for day in range(days)), values=values.astype(np.float32))


def test_the_record_is_four_years_without_a_gap(weather: Weather) -> None:
    assert weather.values.shape == (1461, 6)
    assert np.isfinite(weather.values).all()
    assert {later - earlier for earlier, later in zip(weather.dates, weather.dates[1:], strict=False)} == {
        dt.timedelta(days=1)
    }


def test_the_features_of_a_day_are_in_the_order_of_their_names(weather: Weather) -> None:
    first_of_april = weather.dates.index(dt.date(2014, 4, 1))

    day = dict(zip(FEATURES, weather.values[first_of_april].tolist(), strict=True))

    assert day["temp_max"] > day["temp_min"]
    assert day["year_sin"] == pytest.approx(np.sin(2 * np.pi * 90 / 365.25), abs=1e-6)
    assert day["year_cos"] == pytest.approx(np.cos(2 * np.pi * 90 / 365.25), abs=1e-6)


def test_a_target_is_the_five_days_after_its_window() -> None:
    part = windows(made_up(70), range(2, 70))

    assert len(part) == 4
    assert part.x[0, :, 0].tolist() == list(range(2, 62))
    assert part.target[0, :, 0].tolist() == [62, 63, 64, 65, 66]
    assert part.target[0, :, 1].tolist() == [1062, 1063, 1064, 1065, 1066]
    assert part.target[-1, :, 0].tolist() == [65, 66, 67, 68, 69]
    assert set(part.lengths) == {60}


def test_the_last_day_of_each_part_is_before_the_first_of_the_next(weather: Weather) -> None:
    train, validation, test = map(weather.days_of, (TRAIN_YEARS, VALIDATION_YEARS, TEST_YEARS))

    assert (train.stop, validation.stop, test.stop) == (validation.start, test.start, len(weather.dates))


def test_no_window_reaches_from_one_part_into_another(weather: Weather) -> None:
    parts = seattle_windows()

    for years, part in ((TRAIN_YEARS, parts.train), (VALIDATION_YEARS, parts.validation), (TEST_YEARS, parts.test)):
        days = weather.days_of(years)
        assert len(part) == len(days) - 64
        assert np.array_equal(part.x[0], weather.values[days.start : days.start + 60])
        assert np.array_equal(part.target[-1], weather.values[days.stop - 5 : days.stop, :2])


def test_persistence_repeats_the_last_day_of_the_window() -> None:
    part = windows(made_up(65), range(65))

    assert persistence(part).tolist() == [[[59, 1059]] * 5]


def test_seasonal_naive_is_the_same_calendar_day_of_the_year_before() -> None:
    record = made_up(3 * 366, first=dt.date(2014, 6, 1))
    days = range(366, len(record.dates))
    earlier = seasonal_naive(record, days)

    assert dt.date(2016, 2, 29) in {record.dates[start] for start in forecast_starts(days)}
    for row, start in enumerate(forecast_starts(days)):
        for ahead in range(5):
            date = record.dates[start + ahead]
            day = 28 if (date.month, date.day) == (2, 29) else date.day
            expected = record.dates.index(date.replace(year=date.year - 1, day=day))
            assert earlier[row, ahead].tolist() == [expected, 1000 + expected]


def test_mean_absolute_errors_are_by_target_and_overall() -> None:
    target = np.zeros((3, 5, 2), dtype=np.float32)
    forecast = target + np.array([1, -4], dtype=np.float32)

    assert mean_absolute_errors(forecast, target) == {"temp_max": 1.0, "temp_min": 4.0, "overall": 2.5}
