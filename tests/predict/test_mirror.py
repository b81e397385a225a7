import keras
import numpy as np

from tfseg.config import Predict
from tfseg.experiment import make_predictor
from tfseg.predict import Predictor
from tfseg.predict.mirror import MirroredPredictor
from tfseg.registry import Preprocessing, Spec

GRAY = Preprocessing("gray", (0.0,), (100.0,))


def test_the_border_is_predicted_as_inside_a_mirrored_image():
    keras.utils.set_random_seed(0)
    x = keras.Input((None, None, 1))
    model = keras.Model(x, keras.layers.Conv2D(2, 5, padding="same")(x))
    model.spec = Spec("tiny", 2, preprocessing=GRAY)
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 1)).astype(np.uint8)
    # By hand: row -1 is row 1, row 9 is row 7.
    rows, columns = [2, 1, *range(9), 7, 6], [2, 1, *range(12), 10, 9]
    plain = Predictor(model, GRAY)
    expected = plain(image[np.ix_(rows, columns)])[2:-2, 2:-2]
    assert np.abs(expected - plain(image)).max() > 0.01
    np.testing.assert_allclose(MirroredPredictor(plain, 2)(image), expected, atol=1e-6)
    # Orientations are of the larger image: the order makes no difference.
    for rotations in (False, True):
        section = Predict(mirror_margin=4, rotations=rotations)
        eight = Predictor(model, GRAY, rotations=rotations)
        wide = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        found = make_predictor(model, section)(image)
        np.testing.assert_allclose(found, eight(wide)[4:-4, 4:-4], atol=1e-6)
