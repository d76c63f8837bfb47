"""What deploy/ and the Dockerfile say agrees with the server, with Kubernetes and with itself."""
