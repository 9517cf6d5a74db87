"""The tests: unit/ mirrors the tree, contract/ has one suite for all adapters of a port, flow/ the whole system."""
