"""The front on gRPC's C++ library: Python wakes up once per tick, and not once per request."""
