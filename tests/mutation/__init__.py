"""Mutation testing: small faults are put into the method's modules; the tests must notice them."""
