"""Send a picture of printed words, and print the words that the ensemble `read_text` reads.

pip install 'tritonclient[http,grpc]' pillow
python examples/clients/read_text.py examples/text/images/page.png
python examples/clients/read_text.py --protocol grpc --boxes examples/text/images/page.png
"""

from __future__ import annotations

import argparse

import numpy as np
import tritonclient.grpc
import tritonclient.http
from PIL import Image

#: The two libraries have the same classes and methods.
PROTOCOLS = {
    "http": (tritonclient.http, "localhost:8000"),
    "grpc": (tritonclient.grpc, "localhost:8001"),
}


def main() -> None:
    """One request; the answer has as many words as the picture."""
    parser = argparse.ArgumentParser(description="Read the words of a picture.")
    parser.add_argument("picture", metavar="PICTURE")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="http")
    parser.add_argument("--url", help="host:port (default: the protocol's port of localhost)")
    parser.add_argument("--boxes", action="store_true", help="a line for each word, with its place")
    arguments = parser.parse_args()

    triton, url = PROTOCOLS[arguments.protocol]
    pixels = np.asarray(Image.open(arguments.picture).convert("L"))
    image = triton.InferInput("image", list(pixels.shape), "UINT8")
    image.set_data_from_numpy(pixels)
    with triton.InferenceServerClient(arguments.url or url) as client:
        result = client.infer("read_text", [image])
    words = [word.decode() for word in result.as_numpy("words")]
    if arguments.boxes:
        for word, (left, top, right, bottom) in zip(words, result.as_numpy("boxes"), strict=True):
            print(f"{word}  ({left},{top})-({right},{bottom})")
    else:
        print(" ".join(words))


if __name__ == "__main__":
    main()
