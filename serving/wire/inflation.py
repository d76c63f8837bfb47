"""Messages that clients have compressed, inflated here with a bound.

gRPC core inflates the whole of a message before it looks at the size: a megabyte of zeros, well compressed, becomes a
gigabyte. So it is told to leave messages as they come (`serving/wire/transport.py`), and does not say which of them are
compressed. Their first bytes do: no protobuf begins as gzip does, and no message of ours has a field 15, as which the
first byte of zlib's form would be read.

Source: RFC 1952 (gzip), RFC 1950 (zlib, which gRPC calls deflate).
"""

import zlib

from serving.errors import InvalidRequest

GZIP, ZLIB = b"\x1f\x8b\x08", b"\x78"
GZIP_BITS, ZLIB_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
MIB = 2**20


def inflated(content: bytes, *, max_bytes: int) -> bytes:
    """Return a message as it was before its client compressed it; as it is if it was not, or is not whole.

    Raises:
        InvalidRequest: it would be larger than so many bytes.
    """
    if content.startswith(GZIP):
        inflater = zlib.decompressobj(GZIP_BITS)
    elif content.startswith(ZLIB):
        inflater = zlib.decompressobj(ZLIB_BITS)
    else:
        return content
    try:
        message = inflater.decompress(content, max_bytes + 1)
    except zlib.error:
        return content
    if len(message) > max_bytes:
        raise InvalidRequest(
            f"the message is compressed, {len(content)} bytes, and inflates to more than {max_bytes / MIB:g} MiB "
            "(--max-message-mib); send fewer rows at a time"
        )
    return message if inflater.eof else content
