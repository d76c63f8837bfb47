"""Who may call what: tokens and the rights that they carry."""

from serving.wire.access.rights import Access, Client
from serving.wire.access.tokens import Tokens

__all__ = ["Access", "Client", "Tokens"]
