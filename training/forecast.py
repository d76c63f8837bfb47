"""Seattle's temperatures of the next five days: `python -m training.forecast --output DIR`.

The loss is the mean absolute error in degrees Celsius, the number that is reported and compared with two forecasts that
learn nothing.
"""

import sys

from rich.table import Table
from torch.nn import functional

from training import models
from training.datasets import FloatArray, Part
from training.loop import Settings
from training.recipe import Judgement, Recipe, main
from training.weather import (
    TEST_YEARS,
    mean_absolute_errors,
    persistence,
    seasonal_naive,
    seattle_weather,
    seattle_windows,
)

OVERALL = "overall"


def judge(test: Part, prediction: FloatArray) -> Judgement:
    """Compare the LSTM, float32[rows, 5, 2], with the last day repeated and with the same days of the year before."""
    weather = seattle_weather()
    forecasts = {
        "LSTM": prediction,
        "persistence": persistence(test),
        "seasonal-naive": seasonal_naive(weather, weather.days_of(TEST_YEARS)),
    }
    errors = {name: mean_absolute_errors(forecast, test.target) for name, forecast in forecasts.items()}
    columns = tuple(errors["LSTM"])
    table = Table("MAE in °C", *columns, title=f"Next five days in {TEST_YEARS[0]}, {len(test)} windows")
    for name, by_column in errors.items():
        table.add_row(name, *(f"{by_column[column]:.2f}" for column in columns))
    ranking = sorted(errors, key=lambda name: errors[name][OVERALL])
    places = ", then ".join(f"{name} ({errors[name][OVERALL]:.2f})" for name in ranking)
    metrics = {"mean_absolute_error_celsius": errors, "best": ranking[0]}
    return Judgement(metrics=metrics, table=table, sentence=f"Smallest overall error first: {places}.")


RECIPE = Recipe(
    name="forecast",
    summary="Train a causal LSTM to forecast the next five days' temperatures from 60 days of weather.",
    model=models.forecast,
    data=seattle_windows,
    loss=functional.l1_loss,
    judge=judge,
    settings=Settings(),
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
