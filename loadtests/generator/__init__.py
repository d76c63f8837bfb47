"""The load generator: `generator.c` says what it does and why it is in C; `program` builds it and reads its result."""
