"""Schedules: values over a stage, by hand."""

import pytest

from mac_ray.config import Schedule, pieces, value_at


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [0.9, 0.75, 0.6, 0.45, 0.3]),
        ("cosine", [0.9, 0.9 - 0.6 * 0.14644661, 0.6, 0.9 - 0.6 * 0.85355339, 0.3]),
        ("step", [0.9, 0.9, 0.3, 0.3, 0.3]),
    ],
)
def test_schedule_over_a_stage_goes_from_start_to_end(shape: str, expected: list[float]) -> None:
    schedule = Schedule.model_validate({"shape": shape, "start": 0.9, "end": 0.3})
    assert [value_at(schedule, quarter / 4) for quarter in range(5)] == pytest.approx(expected)


def test_step_schedule_changes_where_it_is_told() -> None:
    schedule = Schedule(shape="step", start=0.0, end=1.0, at=0.9)
    assert (schedule.value(0.89), schedule.value(0.9)) == (0.0, 1.0)


def test_plain_number_stays_what_it_is() -> None:
    assert {value_at(0.6, progress) for progress in (0.0, 0.5, 1.0)} == {0.6}


def test_pieces_end_where_a_knob_jumps() -> None:
    late, early = (Schedule(shape="step", start=0.9, end=0.0, at=at) for at in (0.75, 0.25))
    smooth = Schedule(shape="linear", start=0.9, end=0.0)
    assert pieces(0.6, smooth) == [(0.0, 1.0)]
    assert pieces(late, early) == [(0.0, 0.25), (0.25, 0.75), (0.75, 1.0)]
    assert pieces(Schedule(shape="step", start=0.9, end=0.0, at=0.0)) == [(0.0, 1.0)]
