"""Where the native front was built, and where it was not."""

import pytest

from serving.wire.native import library

needs_front = pytest.mark.skipif(
    not library.is_built(), reason=f"the native front was not built (apt-get install {library.PACKAGES}; make native)"
)
