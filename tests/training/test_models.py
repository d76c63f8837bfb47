"""The recipes' models: padding and company change no answer, and units are real ones."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from training import models
from training.datasets import DataSet, digits, japanese_vowels
from training.loop import answer, answer_alone
from training.weather import seattle_windows

RECIPES = [
    pytest.param(models.speaker, japanese_vowels, id="speaker"),
    pytest.param(models.forecast, seattle_windows, id="forecast"),
    pytest.param(models.digits, digits, id="digits"),
]


def measured(model: models.RecipeModel, data: DataSet) -> models.RecipeModel:
    model.standardise.measure(torch.from_numpy(data.train.real_steps()))
    return model.eval()


@pytest.mark.parametrize(("factory", "load"), RECIPES)
def test_a_padded_batch_gives_each_row_the_answer_it_gets_alone(
    factory: Callable[[], models.RecipeModel], load: Callable[[], DataSet]
) -> None:
    torch.manual_seed(0)
    data = load()
    model = measured(factory(), data)
    rows = data.test.take(np.arange(0, len(data.test), 10))

    with torch.no_grad():
        together = answer(model, rows).numpy()

    np.testing.assert_allclose(together, answer_alone(model, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factory", [models.speaker, models.forecast])
def test_what_stands_in_the_padding_changes_nothing(
    factory: Callable[[], models.SpeakerIdentification | models.WeatherForecast],
) -> None:
    torch.manual_seed(0)
    model = factory().eval()
    lengths = torch.tensor([4, 9])
    x = torch.randn(2, 9, model.lstm.input_size)
    noisy = x.clone()
    noisy[0, 4:] = 1e3

    with torch.no_grad():
        assert torch.equal(model(x, lengths), model(noisy, lengths))


def test_a_forecast_shifts_with_the_units_of_its_input() -> None:
    """A model measured on values 10 higher and 3 times as wide gives the same forecast in those units."""
    torch.manual_seed(0)
    model = models.forecast().eval()
    days = torch.randn(200, models.WEATHER_FEATURES)
    window, lengths = days[None, :60], torch.tensor([60])

    with torch.no_grad():
        model.standardise.measure(days)
        plain = model(window, lengths)
        model.standardise.measure(3 * days + 10)
        shifted = model(3 * window + 10, lengths)

    torch.testing.assert_close(shifted, 3 * plain + 10, rtol=1e-4, atol=1e-4)


def test_what_was_measured_travels_in_the_state_dict() -> None:
    model = models.digits()
    model.standardise.measure(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    copy = models.digits()
    copy.load_state_dict(model.state_dict())

    assert copy.standardise.mean.tolist() == [2.5]
    assert copy.standardise.spread.item() == pytest.approx(np.std([1, 2, 3, 4], ddof=1))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_feature_without_spread_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"features \[1\] have no spread"):
        models.Standardise(2).measure(torch.tensor([[0.0, 7.0], [1.0, 7.0], [4.0, 7.0]] * steps))
