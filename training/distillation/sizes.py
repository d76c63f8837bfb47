"""The models that distillation is shown with: the recipes' own, larger, and a student of each.

The recipes' models (hidden 64) are too small to be teachers: they run in a fraction of a millisecond, much of which is
the fixed cost of a run. Two layers of 256 are the smallest size here whose weights (8.5 MB for the speaker, 3.2 MB for
the forecast) outgrow a processor core's own caches, which is when distilling a model is worth the trouble.
"""

from training.models import (
    HORIZON_DAYS,
    SPEAKER_CHANNELS,
    SPEAKERS,
    WEATHER_FEATURES,
    WEATHER_TARGETS,
    SpeakerIdentification,
    WeatherForecast,
)

TEACHER_HIDDEN = 256
STUDENT_HIDDEN = 112
"""The largest multiple of 16 (a processor's vectors divide it) with at most a quarter of the teacher's parameters."""
DROPOUT = 0.25
"""As in the recipes."""


def speaker_teacher() -> SpeakerIdentification:
    """Return the untrained teacher of `training.speaker`'s task."""
    return _speaker(TEACHER_HIDDEN)


def speaker_student() -> SpeakerIdentification:
    """Return the untrained student of `training.speaker`'s task."""
    return _speaker(STUDENT_HIDDEN)


def forecast_teacher() -> WeatherForecast:
    """Return the untrained teacher of `training.forecast`'s task."""
    return _forecast(TEACHER_HIDDEN)


def forecast_student() -> WeatherForecast:
    """Return the untrained student of `training.forecast`'s task."""
    return _forecast(STUDENT_HIDDEN)


def _speaker(hidden: int) -> SpeakerIdentification:
    return SpeakerIdentification(channels=SPEAKER_CHANNELS, hidden=hidden, speakers=SPEAKERS, dropout=DROPOUT)


def _forecast(hidden: int) -> WeatherForecast:
    return WeatherForecast(
        features=WEATHER_FEATURES, hidden=hidden, days=HORIZON_DAYS, targets=WEATHER_TARGETS, dropout=DROPOUT
    )
