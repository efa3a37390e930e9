"""Send pictures of digits to the example model over HTTP and print what it reads.

pip install 'tritonclient[http]' pillow
python examples/clients/digits_http.py examples/digits/images/3.png
"""

from __future__ import annotations

import argparse

import tritonclient.http as triton
from digit_image import read_digit


def main() -> None:
    """Ask for the likeliest digit of each picture, by the classification extension."""
    parser = argparse.ArgumentParser(description="Read digits over HTTP.")
    parser.add_argument("pictures", nargs="+", metavar="PNG")
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--model", default="digits")
    arguments = parser.parse_args()

    with triton.InferenceServerClient(arguments.url) as client:
        metadata = client.get_model_metadata(arguments.model)
        image_name = metadata["inputs"][0]["name"]
        scores_name = metadata["outputs"][0]["name"]
        for picture in arguments.pictures:
            image = triton.InferInput(image_name, [1, 1, 8, 8], "FP32")
            image.set_data_from_numpy(read_digit(picture)[None])
            scores = triton.InferRequestedOutput(scores_name, class_count=1)
            result = client.infer(arguments.model, [image], outputs=[scores])
            confidence, digit, word = result.as_numpy(scores_name)[0, 0].decode().split(":")
            print(f"{picture}: {digit} ({word}), {float(confidence):.1%} sure")


if __name__ == "__main__":
    main()
