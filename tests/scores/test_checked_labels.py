import numpy as np
import pytest

from hf_clipselect.scores.checked_labels import with_checked_labels
from hf_clipselect.scores.noise_model import LabelNoise, check_auto


def test_what_a_person_says_takes_the_place_of_the_verdict():
    wrong = np.array([0.9, 0.2, 0.6, 0.0, 1.0], dtype=np.float32)
    noise = LabelNoise(wrong, np.array([1, 0, 2, 0, 1]), float(wrong.mean()), 0.1, ("told",))
    labels, is_right = np.array([0, 0, 1, 0, 2]), np.array([True, False, False, True, False])
    checked = with_checked_labels(noise, labels, is_right)
    np.testing.assert_array_equal(checked.error_probability, np.array([0, 0.2, 0.6, 0, 1], dtype=np.float32))
    assert checked.error_probability.dtype == np.float32 and checked.clean_label.tolist() == [0, 0, 2, 0, 1]
    assert (checked.share, checked.share_error) == (pytest.approx(1.8 / 5), pytest.approx(0.1 * 3 / 5))
    assert checked.notices == noise.notices and noise.error_probability[0] == np.float32(0.9)


def test_where_all_rows_were_looked_at_the_share_is_known():
    noise = LabelNoise(np.zeros(3, np.float32), np.arange(3), 0.0, 0.5)
    check_auto(with_checked_labels(noise, np.arange(3), np.ones(3, dtype=bool)))
