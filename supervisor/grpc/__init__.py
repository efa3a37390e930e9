"""The gRPC frontend: translates GRPCInferenceService to and from the server's own terms."""
