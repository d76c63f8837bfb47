"""Seattle's weather, 2012 to 2015: windows of days with the days that follow them, and two forecasts without learning.

Source: NOAA daily summaries as shipped in the package `vega_datasets` (`data.seattle_weather()`), complete, one row per
day. Temperatures are in degrees Celsius, precipitation in millimetres, wind in metres per second.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from vega_datasets import data as vega

from training.datasets import DataSet, FloatArray, Part, Targets
from training.models import HORIZON_DAYS

FEATURES = ("temp_max", "temp_min", "precipitation", "wind", "year_sin", "year_cos")
"""Inputs, in this order. The last two are the day's place on the circle of the year."""
TARGETS = FEATURES[:2]
"""What is forecast: the temperatures. Five days ahead, one station's rain and wind are close to noise, and with one
unit an overall mean absolute error means something."""
WINDOW_DAYS = 60
TRAIN_YEARS, VALIDATION_YEARS, TEST_YEARS = (2012, 2013), (2014,), (2015,)
"""Whole years in order of time, so that each part sees every season."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """A record of consecutive days.

    Attributes:
        dates: the days, in order, without gaps.
        values: float32[days, F], by `FEATURES`.
    """

    dates: tuple[dt.date, ...]
    values: FloatArray

    def days_of(self, years: tuple[int, ...]) -> range:
        """Return the indices of the days of consecutive years."""
        days = [day for day, date in enumerate(self.dates) if date.year in years]
        return range(days[0], days[-1] + 1)


def seattle_weather() -> Weather:
    """Return the 1461 days of the record."""
    table = vega.seattle_weather()
    turn = 2 * np.pi * (table["date"].dt.day_of_year.to_numpy() - 1) / 365.25
    measured = table[list(FEATURES[:-2])].to_numpy()
    values = np.column_stack([measured, np.sin(turn), np.cos(turn)]).astype(np.float32)
    return Weather(dates=tuple(table["date"].dt.date), values=values)


def forecast_starts(days: range) -> range:
    """Return the first forecast day of every window that lies, with what it is to forecast, inside `days`."""
    return range(days.start + WINDOW_DAYS, days.stop - HORIZON_DAYS + 1)


def windows(weather: Weather, days: range) -> Part:
    """Return every window inside `days`: float32[rows, 60, F] and the 5 days after it, float32[rows, 5, 2]."""
    starts = np.array(forecast_starts(days), dtype=np.int64)
    x = weather.values[starts[:, None] + np.arange(-WINDOW_DAYS, 0)]
    target = weather.values[starts[:, None] + np.arange(HORIZON_DAYS), : len(TARGETS)]
    return Part(x=x, lengths=np.full(len(x), WINDOW_DAYS, dtype=np.int64), target=target)


def seattle_windows() -> DataSet:
    """Return the windows of each part; none reaches from one part into another."""
    weather = seattle_weather()
    train, validation, test = (
        windows(weather, weather.days_of(years)) for years in (TRAIN_YEARS, VALIDATION_YEARS, TEST_YEARS)
    )
    return DataSet(train=train, validation=validation, test=test)


def persistence(part: Part) -> FloatArray:
    """Return the last known day of each window for every forecast day, float32[rows, 5, 2]."""
    last = part.x[np.arange(len(part)), part.lengths - 1, : len(TARGETS)]
    return np.repeat(last[:, None], HORIZON_DAYS, axis=1)


def seasonal_naive(weather: Weather, days: range) -> FloatArray:
    """Return what was measured on the same calendar days one year earlier, float32[rows, 5, 2], rows as in `windows`.

    Raises:
        KeyError: the record does not reach back a year.
    """
    day_of = {date: day for day, date in enumerate(weather.dates)}
    starts = np.array(forecast_starts(days), dtype=np.int64)
    year_ago = np.array(
        [day_of[_one_year_before(date)] if day in days else -1 for day, date in enumerate(weather.dates)]
    )
    earlier = year_ago[starts[:, None] + np.arange(HORIZON_DAYS)]
    return weather.values[earlier, : len(TARGETS)]


def mean_absolute_errors(forecast: FloatArray, target: Targets) -> dict[str, float]:
    """Return the mean absolute error (degrees Celsius) of each target and overall, of float32[rows, 5, 2]."""
    error = np.abs(forecast - target)
    by_target = {name: float(error[:, :, index].mean()) for index, name in enumerate(TARGETS)}
    return {**by_target, "overall": float(error.mean())}


def _one_year_before(date: dt.date) -> dt.date:
    if (date.month, date.day) == (2, 29):
        return date.replace(year=date.year - 1, day=28)
    return date.replace(year=date.year - 1)
