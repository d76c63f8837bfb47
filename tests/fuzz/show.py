"""Print one request again, and what becomes of it: `[FUZZ_SEED=N] python -m tests.fuzz.show KIND NUMBER`."""

import sys
import tempfile
from pathlib import Path

from google.protobuf.message import DecodeError

from serving._proto import open_inference_pb2 as oip
from tests.fuzz.house import House
from tests.fuzz.kinds import draw


def main(kind: str, number: int) -> None:
    """Raise what the request raises, if that is no refusal."""
    with tempfile.TemporaryDirectory() as root:
        house = House(Path(root))
        rng, content = draw(house.targets, kind, number)
        print(content.hex())
        try:
            print(oip.ModelInferRequest.FromString(content))
        except DecodeError as error:
            print(error)
        refusal = house.send(rng, content)
        print("answered" if refusal is None else f"{type(refusal).__name__}: {refusal}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
