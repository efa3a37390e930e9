"""Print the JSON body of an inference request for a picture of a digit, for curl.

pip install numpy pillow
python examples/clients/png_to_json.py examples/digits/images/3.png > digit_3.json
curl -s localhost:8000/v2/models/digits/infer -d @digit_3.json
"""

from __future__ import annotations

import argparse
import json

from digit_image import read_digit


def main() -> None:
    """Print the request: one picture in, the likeliest digit out."""
    parser = argparse.ArgumentParser(description="Make a request for curl.")
    parser.add_argument("picture", metavar="PNG")
    picture = read_digit(parser.parse_args().picture)
    image = {"name": "image", "datatype": "FP32", "shape": [1, *picture.shape]}
    image["data"] = [round(float(ink), 1) for ink in picture.ravel()]
    scores = {"name": "scores", "parameters": {"classification": 1}}
    print(json.dumps({"inputs": [image], "outputs": [scores]}))


if __name__ == "__main__":
    main()
