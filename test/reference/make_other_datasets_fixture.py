"""Writes test/fixtures/hdf5/other_datasets.h5: the weights of a preset next to datasets that Keras ignores.

    python test/reference/make_other_datasets_fixture.py

Needs keras, keras-hub, h5py and tensorflow-cpu (see requirements.txt here). KerasHub loads the file as it loads the one
without them.
"""

import os
import shutil
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import h5py
import keras_hub
import numpy as np

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures")
PRESET = os.path.join(FIXTURES, "backbone", "defaults")
OUT = os.path.join(FIXTURES, "hdf5", "other_datasets.h5")


def main():
    Backbone = keras_hub.models.Gemma3Backbone
    with tempfile.TemporaryDirectory() as folder:
        preset = shutil.copytree(PRESET, os.path.join(folder, "preset"))
        weights = os.path.join(preset, "model.weights.h5")
        with h5py.File(weights, "r+") as file:
            for group in ("", "layers/"):
                file.create_dataset(f"{group}notes", data="a note")
                file.create_dataset(f"{group}nothing", data=h5py.Empty("float32"))
                file.create_dataset(f"{group}number", data=1.5)
        expected, loaded = Backbone.from_preset(PRESET), Backbone.from_preset(preset)
        named = shutil.copy(weights, os.path.join(folder, "x.weights.h5"))
        again = Backbone.from_preset(PRESET, load_weights=False)
        again.load_weights(named)
        for a, b, c in zip(expected.weights, loaded.weights, again.weights):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
            np.testing.assert_array_equal(a.numpy(), c.numpy())
        shutil.copy(weights, OUT)


if __name__ == "__main__":
    main()
