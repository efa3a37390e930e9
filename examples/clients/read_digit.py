"""Send PNG files of digits as they are, and print what the ensemble `read_digit` reads on them.

pip install 'tritonclient[http,grpc]'
python examples/clients/read_digit.py examples/digits/images/3.png
python examples/clients/read_digit.py --protocol grpc examples/digits/images/*.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

#: The two libraries have the same classes and methods.
PROTOCOLS = {
    "http": (tritonclient.http, "localhost:8000"),
    "grpc": (tritonclient.grpc, "localhost:8001"),
}


def main() -> None:
    """All pictures in one request: a row for each."""
    parser = argparse.ArgumentParser(description="Read PNG files of digits.")
    parser.add_argument("pictures", nargs="+", metavar="PNG")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="http")
    parser.add_argument("--url", help="host:port (default: the protocol's port of localhost)")
    arguments = parser.parse_args()

    triton, url = PROTOCOLS[arguments.protocol]
    files = [[Path(picture).read_bytes()] for picture in arguments.pictures]
    png = triton.InferInput("png", [len(files), 1], "BYTES")
    png.set_data_from_numpy(np.array(files, dtype=np.object_))
    with triton.InferenceServerClient(arguments.url or url) as client:
        result = client.infer("read_digit", [png])
    labels, sure = result.as_numpy("label"), result.as_numpy("probability")
    for picture, label, probability in zip(arguments.pictures, labels, sure, strict=True):
        print(f"{picture}: {label[0].decode()}, {probability[0]:.1%} sure")


if __name__ == "__main__":
    main()
