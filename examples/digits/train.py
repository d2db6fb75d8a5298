"""Train the small digits classifier of this folder: 8x8 grey images of scikit-learn's digits, ten classes, Adam.

Run it where TensorFlow (2.16 or later) and scikit-learn are installed: python examples/digits/train.py
It writes digits.keras and digits.h5 beside itself, as most people save them: with the optimizer's state inside.
"""

from pathlib import Path

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    """Train, print the accuracy on held-out images, save both files."""
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train_x, train_y, epochs=20, batch_size=32, verbose=0)
    _, accuracy = model.evaluate(test_x, test_y, verbose=0)
    print(f"accuracy on {len(test_x)} held-out images: {accuracy:.3f}")
    folder = Path(__file__).parent
    model.save(folder / "digits.keras")
    model.save(folder / "digits.h5")


if __name__ == "__main__":
    main()
